"""Makes URLs of SQLite files, and formats database URLs for logs and messages, without secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url

#: URL options that are never secret. Other options may be secret, because drivers also accept passwords as options.
SHOWN_OPTIONS: Final = frozenset({"host", "port", "sslmode", "connect_timeout", "application_name", "mode", "cache"})


def shown_url(url: URL) -> str:
    """Return the URL for logs and messages, with a masked password and without options other than `SHOWN_OPTIONS`."""
    hidden = [name for name in url.query if name not in SHOWN_OPTIONS]
    return url.difference_update_query(hidden).render_as_string(hide_password=True)


def shown_text(text: str) -> str:
    """Return a database URL, or the path of an SQLite file, for logs and messages; see `shown_url`."""
    return shown_url(make_url(text)) if "://" in text else text


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file. If a URL would change the path, return the path, which `Database` accepts."""
    url = f"sqlite:///{path}"
    return url if make_url(url).database == str(path) else str(path)
