"""Formats database URLs for logs and messages, without secrets."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL

#: URL options that are never secret. Other options may be secret, because drivers also accept passwords as options.
SHOWN_OPTIONS: Final = frozenset({"host", "port", "sslmode", "connect_timeout", "application_name", "mode", "cache"})


def shown_url(url: URL) -> str:
    """Return the URL for logs and messages, with a masked password and without options other than `SHOWN_OPTIONS`."""
    hidden = [name for name in url.query if name not in SHOWN_OPTIONS]
    return url.difference_update_query(hidden).render_as_string(hide_password=True)
