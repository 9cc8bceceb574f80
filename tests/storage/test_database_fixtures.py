"""The fixtures that every storage test stands on: each test gets a database of its own."""

from __future__ import annotations

import pytest

from storage import Database, JobsRepository


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
