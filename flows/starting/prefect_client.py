"""A client of Prefect's server that gives up after a short time, for callers that can continue without an answer."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: Hosts by which servers of this machine are addressed. Such servers do not redirect to TLS.
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@contextmanager
def impatient_client(*, answer_seconds: float) -> Iterator["SyncPrefectClient"]:
    """Open a client that sends each request once and waits `answer_seconds` for the answer.

    The client raises at once if the server is unreachable or returns an error. Prefect's own retries would take about
    ten minutes, or as long as the server reports maintenance.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    settings: dict[str, Any] = {"timeout": answer_seconds}
    url = urlsplit(PREFECT_API_URL.value() or "")
    if url.scheme == "http" and url.hostname in _LOOPBACK:
        # HTTP needs no certificates. Loading the certificates of all authorities takes longer than the requests of a
        # short run, so they are not loaded.
        settings["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings=settings) as client,
    ):
        yield client


def may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed later, because the server was busy or could not be reached."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)
