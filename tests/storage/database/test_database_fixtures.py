"""The fixtures of all storage tests give each test a new database."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text

from storage import Database, JobsRepository, LanesRepository
from storage.errors import DatabaseUnavailable
from tests.postgresql_databases import PostgresqlDatabases


@pytest.mark.parametrize("run", [1, 2])
def test_a_test_never_sees_the_rows_of_another(database: Database, run: int) -> None:
    repository = JobsRepository(database)
    assert repository.list_by_tenant("tenant") == []
    repository.enqueue(tenant_id="tenant", type="x")
    assert len(repository.list_by_tenant("tenant")) == 1


def test_the_fixtures_clock_is_the_databases_clock(database: Database, clock) -> None:
    repository = JobsRepository(database)
    first = repository.enqueue(tenant_id="tenant", type="x")
    clock.advance(seconds=90)
    second = repository.enqueue(tenant_id="tenant", type="x")
    assert (second.created_at - first.created_at).total_seconds() == 90


@pytest.fixture
def a_few(postgresql_server_url: str) -> Iterator[PostgresqlDatabases]:
    databases = PostgresqlDatabases(postgresql_server_url)
    yield databases
    databases.close()


def _execute(database: Database, *statements: str) -> None:
    with database.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_postgresql_database_is_used_again_as_a_new_one(a_few: PostgresqlDatabases) -> None:
    name = a_few.take()
    left_open = Database(a_few.url(name))
    first = JobsRepository(left_open).enqueue(tenant_id="tenant", type="x")
    _execute(left_open, "DELETE FROM lanes")
    a_few.give_back(name)
    again = Database(a_few.url(a_few.take()))
    assert len(LanesRepository(again).list()) == 2
    assert JobsRepository(again).list_by_tenant("tenant") == []
    assert JobsRepository(again).enqueue(tenant_id="tenant", type="x").id == first.id
    with pytest.raises(DatabaseUnavailable):
        JobsRepository(left_open).list_by_tenant("tenant")
    for database in (left_open, again):
        database.close()


def test_a_postgresql_database_that_is_not_as_it_was_is_not_used_again(a_few: PostgresqlDatabases) -> None:
    changes = [
        "ALTER TABLE jobs ADD CHECK (status <> 'completed')",
        "ALTER TABLE jobs ALTER COLUMN type DROP NOT NULL",
        "CREATE TABLE more (id int)",
        "CREATE SCHEMA more",
        "UPDATE alembic_version SET version_num = '9999'",
        "DROP TABLE alembic_version",
        "ANALYZE lanes",
    ]
    names = [a_few.take() for _ in changes]
    for name, change in zip(names, changes, strict=True):
        database = Database(a_few.url(name))
        _execute(database, change)
        database.close()
        a_few.give_back(name)
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(a_few.url(name))
        assert a_few.kept == 0, change
