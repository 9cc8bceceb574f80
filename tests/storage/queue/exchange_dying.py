"""Dies before a certain statement of an exchange. `test_exchange_deaths.py` runs it as `python exchange_dying.py URL`.

Each line of its input has two numbers: the statement before which a forked process kills itself while it hands in what
`dying` runs, and how many jobs it takes at most. The answer is `died`, or `survived` where there were not as many
statements.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from sqlalchemy import event, select

from storage import Database, JobsRepository
from storage.database.driver_statement import DriverStatement
from storage.database.tables import jobs as job_table
from storage.queue.exchange import End, Wanted
from storage.records import JobStatus


def main(url: str) -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            before, limit = map(int, line.split())
            _exchange_and_die(url, before=before, limit=limit)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status in (0, signal.SIGKILL), status
        print("died" if status else "survived", flush=True)  # noqa: T201 - the parent reads it.


def _exchange_and_die(url: str, *, before: int, limit: int) -> None:
    database = Database(url)
    with database.connect() as connection:
        running = connection.execute(
            select(job_table.c.id, job_table.c.claim_token).where(
                job_table.c.status == "running", job_table.c.worker_id == "dying"
            )
        ).all()
    ended = [End(job_id=row.id, status=JobStatus.COMPLETED, claim_token=row.claim_token) for row in running]
    statements = 0

    def tick(*_: object) -> None:
        nonlocal statements
        statements += 1
        if statements == before:
            os.kill(os.getpid(), signal.SIGKILL)

    text, in_order = DriverStatement.text, DriverStatement.in_order

    def ticking(self: DriverStatement, dialect: str) -> Any:
        tick()
        return text(self, dialect)

    def ticking_in_order(self: DriverStatement, parameters: Any) -> Any:
        tick()
        return in_order(self, parameters)

    DriverStatement.text = ticking  # type: ignore[method-assign]
    DriverStatement.in_order = ticking_in_order  # type: ignore[method-assign]
    event.listen(database.engine, "before_cursor_execute", tick)
    event.listen(database.engine, "commit", tick)
    JobsRepository(database).claim("dying", Wanted(lanes=("priority", "normal")), limit=limit, ended=ended)


if __name__ == "__main__":
    main(*sys.argv[1:])
