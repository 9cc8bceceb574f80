"""The page for the link that `photojobs up` prints: it stores the password in the browser, and opens Prefect's pages.

The password is in the link's fragment, which a browser never sends to a server. The page stores the password as
Prefect's pages do after a user has typed it into their prompt.
"""

from __future__ import annotations

import base64
import hashlib

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from deployments.embedded_server.password import LOGIN_PATH

#: The key under which Prefect's pages store the password, encoded by `btoa`.
STORAGE_KEY = "prefect-password"

_SCRIPT = f"""
const password = decodeURIComponent(location.hash.slice(1));
if (/^[A-Za-z0-9+/=]+$/.test(password)) {{ localStorage.setItem("{STORAGE_KEY}", password); }}
location.replace("/");
"""
_DIGEST = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_PAGE = f'<!doctype html><meta charset="utf-8"><title>photojobs</title><script>{_SCRIPT}</script>'


async def _page(_request: Request) -> HTMLResponse:
    policy = f"default-src 'none'; script-src 'sha256-{_DIGEST}'; frame-ancestors 'none'"
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})


def login_route() -> Route:
    """Return the route of the page; it must come before the routes of Prefect's own pages."""
    return Route(LOGIN_PATH, _page, methods=["GET"])
