"""Sets up each PostgreSQL session in the same way, whatever settings the server, role, database or pooler has.

The settings are made after connecting. Startup options are not used, because PgBouncer refuses them, and they would
replace the user's options.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, event
from typing_extensions import override

from storage.database.clock import parse_timestamp
from storage.database.database_url import shown_url
from storage.errors import UnsuitableEncoding, UnsuitablePooler

if TYPE_CHECKING:
    from psycopg.abc import AdaptContext, Buffer
    from psycopg.adapt import Loader

#: Options of libpq that end a connection if the server is silent (`keepalives`, in seconds) or does not acknowledge
#: data (`tcp_user_timeout`, in milliseconds). Both times are shorter than the time after which a job counts as
#: abandoned.
_NETWORK = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}

#: After this number of seconds without a statement, the server ends a transaction and its session. So a process that is
#: frozen, or whose machine sleeps, does not keep rows locked.
IDLE_TRANSACTION_SECONDS = 60

#: The methods of PostgreSQL's planner that do not read rows in the order of an index. Some sessions switch them off.
_OTHER_WAYS = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_sort")


def connect_arguments(url: URL) -> dict[str, Any]:
    """Return the options for opening every connection, without options that the user's URL sets."""
    wanted = {"connect_timeout": 10, "application_name": "photojobs", **_NETWORK}
    return {name: value for name, value in wanted.items() if name not in url.query}


def prepare_sessions(engine: Engine, *, lock_timeout_seconds: float, plans_once: bool) -> None:
    """Set up each new connection of an engine before its first use.

    A statement waits up to `lock_timeout_seconds` for a lock. If `plans_once`, PostgreSQL plans every statement without
    its values, and reads rows in the order of indexes whatever the statistics say. Statistics are out of date while a
    queue fills or empties.
    """
    settings = {
        "TimeZone": "UTC",
        "DateStyle": "ISO, MDY",
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
        "default_transaction_isolation": "read committed",
        "lock_timeout": f"{int(lock_timeout_seconds * 1000)}ms",
        "plan_cache_mode": "force_generic_plan" if plans_once else "auto",
    }
    if plans_once:
        settings |= dict.fromkeys(_OTHER_WAYS, "off")
    values = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    # `off` becomes `on`, because a power cut must not lose a commit that was reported. Stricter values, and the user's
    # own limit for idle transactions, are kept.
    synchronous = "replace(current_setting('synchronous_commit'), 'off', 'on')"
    idle = "idle_in_transaction_session_timeout"
    idle_limit = f"coalesce(nullif(current_setting('{idle}'), '0'), '{IDLE_TRANSACTION_SECONDS}s')"
    statement = (
        f"SELECT pg_backend_pid(), {values}, set_config('synchronous_commit', {synchronous}, false), "
        f"set_config('{idle}', {idle_limit}, false)"
    )

    looked_at_pooler: list[bool] = []
    time_loaders = _time_loaders()

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        _check_encoding(connection, engine.url)
        # Without autocommit, a rollback would undo the settings.
        connection.autocommit = True
        (server_process, *_) = connection.execute(statement).fetchone()
        if server_process != connection.info.backend_pid and not looked_at_pooler:
            # The process id that the connection was given is not the id of the server process, so a pooler is in
            # between.
            _check_pooler(connection, engine.url)
            looked_at_pooler.append(True)
        connection.autocommit = False
        for name, loader in time_loaders.items():
            connection.adapters.register_loader(name, loader)


def _time_loaders() -> dict[str, type[Loader]]:
    """Return the loaders of times by type. Only other programs have columns of the types without a time zone."""
    from psycopg import DataError, adapters
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    class TimestampLoader(Loader):
        """Returns a time that Python cannot hold, such as `infinity`, as text; psycopg's own loader raises an error.

        `UtcTimestamp` makes it None in our columns. In columns of other programs it stays, so that it can be restored.
        """

        @override
        def load(self, data: Buffer) -> datetime | str:
            text = str(data, "ascii")
            return parse_timestamp(text) or text

    def lenient(usual: Callable[..., Any]) -> type[Loader]:
        class LenientLoader(Loader):
            """Returns what psycopg's own loader returns, or a time that Python cannot hold as text."""

            def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
                super().__init__(oid, context)
                self._usual = usual(oid, context)

            @override
            def load(self, data: Buffer) -> Any:
                try:
                    return self._usual.load(data)
                except DataError:
                    return str(data, "ascii")

        return LenientLoader

    others = ("timestamp", "date", "time", "timetz")
    found = {name: adapters.get_loader(adapters.types[name].oid, Format.TEXT) for name in others}
    lenients = {name: lenient(usual) for name, usual in found.items() if usual is not None}
    return {"timestamptz": TimestampLoader, **lenients}


def _check_encoding(connection: Any, url: URL) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding is None:
        encoding = connection.execute("SHOW server_encoding").fetchone()[0]
        connection.rollback()
    if encoding != "UTF8":
        raise UnsuitableEncoding(
            f"{shown_url(url)}: the database has the encoding {encoding}, which cannot hold "
            "every file name. Create a database with ENCODING 'UTF8' TEMPLATE template0, and use the new database."
        )


def _check_pooler(connection: Any, url: URL) -> None:
    """Refuse a pooler that shares one server connection among several clients.

    A pooler in session mode never gives two connections the same server process, so a second connection is opened and
    its server process is compared.
    """
    import psycopg

    parameters: Any = connection.info.get_parameters() | {"password": connection.info.password}
    with psycopg.connect(**parameters, autocommit=True) as second:
        asked: list[Any] = [connection, second, connection, second]
        processes = [each.execute("SELECT pg_backend_pid()").fetchone()[0] for each in asked]
    if processes[:2] != processes[2:] or processes[0] == processes[1]:
        raise UnsuitablePooler(
            f"{shown_url(url)}: a pooler shares its server connections among clients "
            "(transaction mode), but photojobs needs its own sessions. Set pool_mode = session for this database, or "
            "use the port of PostgreSQL itself."
        )
