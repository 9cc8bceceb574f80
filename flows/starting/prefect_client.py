"""Prefect's client for those who would rather go on without an answer than wait for it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@contextmanager
def impatient_client(*, answer_seconds: float) -> Iterator[SyncPrefectClient]:
    """A client that asks once and waits for so long; an error, or a server that is away, raises at once.

    Prefect's own repetitions have no end in time: some ten minutes, or as long as a server says "maintenance".
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    settings: dict[str, Any] = {"timeout": answer_seconds}
    if str(PREFECT_API_URL.value()).startswith("http://"):
        # Reading the certificates of all authorities, for nothing, takes longer than all that is asked in a short run.
        settings["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True, httpx_settings=settings) as client,
    ):
        yield client


def may_pass(error: Exception) -> bool:
    """Whether the server may well take in a moment what it did not take now; it may also be away."""
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)
