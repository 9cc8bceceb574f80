"""Lists jobs in pages, newest first, and checks the limits of a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from storage.database.column_types import check_integer
from storage.database.driver_statement import Runs
from storage.lifecycle.job_statement import JOB_COLUMNS, JobStatement
from storage.records import Job

#: The number of rows that a listing returns by default.
DEFAULT_LIMIT = 50


def list_newest(
    run: Runs,
    filters: Mapping[str, Any],
    *,
    limit: int,
    offset: int,
    before: tuple[datetime, int] | None = None,
) -> list[Job]:
    """Return the jobs whose columns have the values of `filters`, newest first. None in `filters` means any value.

    `before` is `(created_at, id)` of the last job of the previous page.

    Raises:
        InvalidValue: `limit` or `offset` is not a whole number, or is negative.
    """
    check_page(limit=limit, offset=offset)
    parameters = {name: value for name, value in filters.items() if value is not None}
    statement = _page(tuple(parameters), before is not None, limit, offset)
    if before is not None:
        parameters |= {"before_at": before[0], "before_id": before[1]}
    return run(statement, parameters)


def check_page(*, limit: int, offset: int = 0) -> None:
    """Raise `InvalidValue` unless `limit` and `offset` are whole numbers from 0 that both databases accept."""
    check_integer(limit, name="limit", minimum=0)
    check_integer(offset, name="offset", minimum=0)


@lru_cache(maxsize=256)
def _page(filters: tuple[str, ...], is_paged: bool, limit: int, offset: int) -> JobStatement:
    conditions = [f"{name} = :{name}" for name in filters]
    if is_paged:
        # The first condition limits the range of the index, the second excludes the jobs of the previous page.
        conditions += ["created_at <= :before_at", "(created_at, id) < (:before_at, :before_id)"]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return JobStatement(
        # The limits are literals, because PostgreSQL plans a statement with a bound limit again each time.
        f"SELECT {JOB_COLUMNS} FROM jobs {where} ORDER BY created_at DESC, id DESC LIMIT {limit:d} OFFSET {offset:d}"
    )
