"""How URLs of databases are shown: without what may be secret."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL

#: Options in a URL that hold no secret. Drivers take passwords and paths of keys as options, too.
SHOWN_OPTIONS: Final = frozenset({"host", "port", "sslmode", "connect_timeout", "application_name", "mode", "cache"})


def shown_url(url: URL) -> str:
    """The URL fit for logs and messages: its password masked, and of its options only those that hold no secret."""
    hidden = [name for name in url.query if name not in SHOWN_OPTIONS]
    return url.difference_update_query(hidden).render_as_string(hide_password=True)
