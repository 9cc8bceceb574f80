"""Our sessions have the right settings, whatever a server, a role, a database or a pooler presets."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from deployments.doctor.database import examine_database
from deployments.doctor.finding import Standing
from storage import Database, JobsRepository, LanesRepository, Settings
from storage.database.driver_statement import DriverStatement
from storage.database.postgresql_session import connect_arguments
from storage.errors import DatabaseBusy, DatabaseReadOnly, DatabaseUnavailable

pytestmark = pytest.mark.postgres

Execute = Callable[[str], Any]


@pytest.fixture
def execute(empty_postgresql_url: str) -> Iterator[Execute]:
    """A function that runs a statement on the new database without our code."""
    with psycopg.connect(empty_postgresql_url, autocommit=True) as connection:
        yield connection.execute


def preset(execute: Execute, url: str, **settings: str) -> None:
    for name, value in settings.items():
        execute(f"ALTER DATABASE {make_url(url).database} SET {name} = '{value}'")


@pytest.mark.parametrize("planned_once", [False, True])
def test_a_session_is_what_the_statements_rely_on_whatever_was_preset(
    empty_postgresql_url: str, execute: Execute, planned_once: bool
) -> None:
    preset(
        execute,
        empty_postgresql_url,
        timezone="Asia/Tokyo",
        datestyle="German",
        default_transaction_isolation="repeatable read",
        lock_timeout="1ms",
        plan_cache_mode="force_custom_plan",
        client_encoding="LATIN1",
        synchronous_commit="off",
    )
    database = Database(empty_postgresql_url)
    names = ["TimeZone", "DateStyle", "transaction_isolation", "lock_timeout", "plan_cache_mode", "client_encoding"]
    names += ["synchronous_commit", "idle_in_transaction_session_timeout"]
    shown = ", ".join(f"current_setting('{name}')" for name in names)
    [settings] = database.run(DriverStatement(f"SELECT {shown}", is_planned_once=planned_once), {})
    plans = "force_generic_plan" if planned_once else "auto"
    assert settings == ("UTC", "ISO, MDY", "read committed", "30s", plans, "UTF8", "on", "1min")
    database.close()


def test_a_look_leaves_statements_prepared(postgresql_database: Database) -> None:
    # After a rollback, psycopg would forget how often a statement has run on this connection.
    for _ in range(10):
        with postgresql_database.connect_to_look() as connection:
            connection.execute(text("SELECT 17"))
        postgresql_database.run(DriverStatement("SELECT 18"), {})

    with postgresql_database.connect_to_look() as connection:
        prepared = connection.execute(text("SELECT statement FROM pg_prepared_statements")).scalars().all()
    assert {"SELECT 17", "SELECT 18"} <= set(prepared)


def test_a_stricter_rule_for_commits_stays(empty_postgresql_url: str, execute: Execute) -> None:
    preset(execute, empty_postgresql_url, synchronous_commit="remote_apply")
    database = Database(empty_postgresql_url)
    assert database.run(DriverStatement("SELECT current_setting('synchronous_commit')"), {}) == [("remote_apply",)]
    database.close()


def test_a_lane_has_no_more_slots_under_another_default_isolation(empty_postgresql_url: str, execute: Execute) -> None:
    preset(execute, empty_postgresql_url, default_transaction_isolation="repeatable read")
    database = Database(empty_postgresql_url)
    database.migrate()
    with database.begin() as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"
    LanesRepository(database).change("normal", slots=1)
    jobs = JobsRepository(database)
    jobs.enqueue_many([{"tenant_id": "t", "type": "x"}] * 2)
    assert [jobs.claim_next("worker", lane="normal") is not None for _ in range(2)] == [True, False]
    database.close()


@pytest.mark.parametrize("way", ["url", "environment"])
def test_the_search_path_of_the_user_is_kept(
    empty_postgresql_url: str, execute: Execute, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    execute("CREATE SCHEMA mine")
    url = make_url(empty_postgresql_url)
    if way == "url":
        url = url.update_query_dict({"options": "-csearch_path=mine"})
    else:
        monkeypatch.setenv("PGOPTIONS", "-c search_path=mine")
    database = Database(url.render_as_string(hide_password=False))
    database.migrate()
    JobsRepository(database).enqueue(tenant_id="t", type="x")
    database.close()
    found = execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename IN ('jobs', 'tasks', 'alembic_version')")
    assert found.fetchall() == [("mine",)]


def test_nothing_is_asked_for_at_the_start_that_a_pooler_refuses(postgresql_url: str) -> None:
    url = make_url(postgresql_url)
    assert "options" not in connect_arguments(url)


def test_a_network_that_says_nothing_is_given_up_before_a_job_counts_as_abandoned(postgresql_url: str) -> None:
    url = make_url(postgresql_url)
    asked = connect_arguments(url)
    silent_seconds = asked["keepalives_idle"] + asked["keepalives_interval"] * asked["keepalives_count"]
    stale_seconds = Settings.model_fields["stale_seconds"].default
    assert asked["keepalives"] == 1
    assert max(silent_seconds, asked["tcp_user_timeout"] / 1000, asked["connect_timeout"]) < stale_seconds
    assert "keepalives_idle" not in connect_arguments(url.update_query_dict({"keepalives_idle": "3"}))


def test_a_database_in_another_encoding_is_refused_in_one_sentence(postgresql_server_url: str) -> None:
    name = f"photojobs_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgresql_server_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        database = Database(make_url(postgresql_server_url).set(database=name).render_as_string(hide_password=False))
        with pytest.raises(DatabaseUnavailable, match=r"has the encoding LATIN1.*ENCODING 'UTF8'"):
            database.migrate()
        [finding] = examine_database(database)
        assert (finding.name, finding.standing) == ("encoding", Standing.PROBLEM)
        database.close()
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_pooler_that_shares_a_server_connection_is_refused(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PgBouncer reports its own process ids to clients. In transaction mode, both clients use the same server process.
    shared = psycopg.connect(postgresql_url, autocommit=True)

    class Pooled:
        """A client of a pooler."""

        def __init__(self, *_: Any, **__: Any) -> None:
            self.execute = shared.execute

        def __enter__(self) -> Pooled:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    execute = psycopg.Connection.execute

    def execute_shared(self: Any, query: Any, *arguments: Any, **more: Any) -> Any:
        is_asked = self is not shared and "pg_backend_pid" in str(query)
        return execute(shared if is_asked else self, query, *arguments, **more)

    database = Database(postgresql_url)
    connect = psycopg.connect
    monkeypatch.setattr(psycopg.Connection, "execute", execute_shared)
    monkeypatch.setattr(
        "psycopg.connect", lambda *args, **more: Pooled() if more.get("autocommit") else connect(*args, **more)
    )
    with pytest.raises(DatabaseUnavailable, match=r"transaction mode.*pool_mode = session"):
        JobsRepository(database).list_by_tenant("t")
    [finding] = examine_database(database)
    assert (finding.name, finding.standing) == ("pooling", Standing.PROBLEM)
    monkeypatch.undo()
    shared.close()
    database.close()


def test_a_statement_that_the_server_stops_is_worth_another_try(postgresql_database: Database) -> None:
    with postgresql_database.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = '10ms'"))
        with pytest.raises(DatabaseBusy, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(10)"))
        connection.rollback()


def test_a_process_that_is_frozen_in_a_transaction_gives_its_rows_free(
    empty_postgresql_url: str, execute: Execute
) -> None:
    execute("CREATE TABLE locked ()")
    preset(execute, empty_postgresql_url, idle_in_transaction_session_timeout="1s")
    lock = text("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")

    def freeze() -> None:
        with frozen.begin() as connection:
            connection.execute(lock)
            # This process does nothing now; the server ends its transaction.
            with other.begin() as waiting:
                waiting.execute(lock)
            connection.execute(text("SELECT 1"))

    with closing(Database(empty_postgresql_url)) as frozen, closing(Database(empty_postgresql_url)) as other:
        with pytest.raises(DatabaseUnavailable):
            freeze()
        with frozen.begin() as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.mark.parametrize("planned_once", [False, True])
def test_a_session_that_became_read_only_is_not_used_again(postgresql_database: Database, planned_once: bool) -> None:
    process = DriverStatement("SELECT pg_backend_pid()", is_planned_once=planned_once)
    [(before,)] = postgresql_database.run(process, {})
    make_read_only = "SELECT set_config('default_transaction_read_only', 'on', false)"
    postgresql_database.run(DriverStatement(make_read_only, is_planned_once=planned_once), {})
    delete = DriverStatement("DELETE FROM jobs", is_planned_once=planned_once)
    with pytest.raises(DatabaseReadOnly):
        postgresql_database.run(delete, {})
    [(after,)] = postgresql_database.run(process, {})
    assert after != before
    postgresql_database.run(delete, {})


def test_a_read_only_session_of_the_pool_is_replaced(postgresql_database: Database) -> None:
    with postgresql_database.begin() as connection:
        connection.execute(text("SELECT set_config('default_transaction_read_only', 'on', false)"))
    with pytest.raises(DatabaseReadOnly), postgresql_database.begin() as connection:
        connection.execute(text("DELETE FROM jobs"))
    with postgresql_database.begin() as connection:
        connection.execute(text("DELETE FROM jobs"))


@pytest.mark.parametrize("opened", [Database.begin, Database.connect_to_look])
def test_a_session_with_statements_from_before_a_change_of_columns_is_replaced(
    postgresql_database: Database, postgresql_url: str, opened: Callable[..., Any]
) -> None:
    # The server prepares the statement when it has run a few times.
    for _ in range(10):
        with opened(postgresql_database) as connection:
            connection.execute(text("SELECT * FROM photos")).all()
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as other:
        other.execute("ALTER TABLE photos ADD COLUMN note text")

    with pytest.raises(DatabaseUnavailable, match="columns"), opened(postgresql_database) as connection:
        connection.execute(text("SELECT * FROM photos")).all()
    with opened(postgresql_database) as connection:
        assert "note" in set(connection.execute(text("SELECT * FROM photos")).keys())


def test_a_server_that_does_not_answer_in_time_counts_as_away(postgresql_database: Database) -> None:
    with pytest.raises(DatabaseUnavailable), postgresql_database.begin_briefly(0.1) as connection:
        connection.execute(text("SELECT pg_sleep(600)"))
    with postgresql_database.begin_briefly(60) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
