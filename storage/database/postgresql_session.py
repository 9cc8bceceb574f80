"""A PostgreSQL session as our statements need it, whatever the server, the role, the database or a pooler preset.

By SET after connecting, not by options at the start: PgBouncer refuses those, and the user's own would be lost.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Engine, event

from storage.errors import UnsuitableEncoding, UnsuitablePooler

#: Seconds after which a connection whose other end is silent, or does not acknowledge, is given up; together they are
#: shorter than the time after which a job counts as abandoned.
_NETWORK = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}

#: Ways of the planner to read a table, or a part of it, as a whole.
_OTHER_WAYS = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_sort")


def connect_arguments(url: URL) -> dict[str, Any]:
    """What every connection is opened with; what the user's URL says comes first."""
    wanted = {"connect_timeout": 10, "application_name": "photojobs", **_NETWORK}
    return {name: value for name, value in wanted.items() if name not in url.query}


def prepare_sessions(engine: Engine, *, lock_timeout_seconds: float, plans_once: bool) -> None:
    """Have each new connection of an engine set up before its first use.

    Args:
        engine: of a PostgreSQL database.
        lock_timeout_seconds: how long a statement waits for a lock.
        plans_once: whether every statement is to be planned without looking at its values, and to reach its rows by
            indexes, in their order, whatever the statistics say: they lag behind a queue that fills or drains.
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
    # A commit that was reported may not be lost by a power cut; a stricter setting than `on` stays.
    synchronous = "replace(current_setting('synchronous_commit'), 'off', 'on')"
    statement = f"SELECT pg_backend_pid(), {values}, set_config('synchronous_commit', {synchronous}, false)"

    looked_at_pooler: list[bool] = []

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        _check_encoding(connection, engine.url)
        # Set within a transaction that is rolled back, they would be lost.
        connection.autocommit = True
        (server_process, *_) = connection.execute(statement).fetchone()
        if server_process != connection.info.backend_pid and not looked_at_pooler:
            # A pooler gives its clients process ids of its own.
            _check_pooler(connection, engine.url)
            looked_at_pooler.append(True)
        connection.autocommit = False


def _check_encoding(connection: Any, url: URL) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding is None:
        encoding = connection.execute("SHOW server_encoding").fetchone()[0]
        connection.rollback()
    if encoding != "UTF8":
        raise UnsuitableEncoding(
            f"{url.render_as_string(hide_password=True)}: the database is encoded in {encoding}, which cannot hold "
            "every file name; create one with ENCODING 'UTF8' TEMPLATE template0 and name that."
        )


def _check_pooler(connection: Any, url: URL) -> None:
    """Refuse a pooler that gives one server connection to several clients in turn.

    A second client sees it: in session mode it never gets the server process of the first.
    """
    import psycopg

    parameters: Any = connection.info.get_parameters() | {"password": connection.info.password}
    with psycopg.connect(**parameters, autocommit=True) as second:
        asked: list[Any] = [connection, second, connection, second]
        processes = [each.execute("SELECT pg_backend_pid()").fetchone()[0] for each in asked]
    if processes[:2] != processes[2:] or processes[0] == processes[1]:
        raise UnsuitablePooler(
            f"{url.render_as_string(hide_password=True)}: a pooler gives its server connections to several clients in "
            "turn (transaction mode), and photojobs needs sessions of its own. Use pool_mode = session for this "
            "database, or the port of PostgreSQL itself."
        )
