"""Checks the Prefect server that the environment names, and creates clients of it.

`deployments.server.prefect_server` decides whether this server or one of our own is used.
"""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deployments.cli.options.errors import ServerAway
from deployments.cli.options.opening import use_password
from deployments.errors import NoPrefectServer
from deployments.server.server_api import opened_url
from storage.settings import Settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: How long the named server may take to answer.
SERVER_SECONDS = 10.0


def check_named_server() -> None:
    """Check that the server in `PREFECT_API_URL` answers, if the variable is set.

    Raises:
        ServerAway: no server answers at this URL.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return
    try:
        with opened_url(f"{url.rstrip('/')}/health", timeout_seconds=SERVER_SECONDS):
            return
    except urllib.error.HTTPError:
        # An HTTP error is an answer of a server. Prefect's client checks later whether its key is accepted.
        return
    except (OSError, ValueError) as error:
        raise ServerAway(
            f"PREFECT_API_URL: no Prefect server answers at {url} ({error}). Start the server, or name another one. "
            "`photojobs run` and `undo` also work without this variable."
        ) from None


@contextmanager
def named_server_client() -> Iterator[SyncPrefectClient]:
    """Yield a client of the server that the environment, or Prefect's own profile, names.

    Raises:
        NoPrefectServer: no server is named.
        ServerAway: the server does not answer.
    """
    check_named_server()
    use_password(Settings.load())
    from flows.starting.prefect_requests import has_server

    if not has_server():
        raise NoPrefectServer("PREFECT_API_URL is not set. Set it to the URL of the Prefect server's API.")
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client
