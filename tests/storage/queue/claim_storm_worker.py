"""A worker of the claim storm: claims jobs of a lane until none is left, and prints what it did with each job.

`test_claim_storm.py` runs it as `python claim_storm_worker.py URL NAME`. Each line on its output is a claim.
"""

from __future__ import annotations

import sys
import time

from sqlalchemy import text

from storage import Database, JobsRepository

_IS_QUEUED = text("SELECT 1 FROM jobs WHERE status = 'queued' LIMIT 1")
_NOTE = text("""
    INSERT INTO storm (job_id, worker, priority, running)
    SELECT :job_id, :worker, :priority, count(*) FROM jobs WHERE status = 'running'
""")


def main(url: str, name: str) -> None:
    database = Database(url)
    jobs = JobsRepository(database)
    while True:
        job = jobs.claim_next(name, lane="normal")
        if job is None:
            with database.connect() as connection:
                if connection.execute(_IS_QUEUED).first() is None:
                    return
            time.sleep(0.002)
            continue
        print(job.id, job.priority, flush=True)  # noqa: T201 - the parent reads it.
        # The note before the end: it counts the job itself among the running ones.
        with database.begin() as connection:
            connection.execute(_NOTE, {"job_id": job.id, "worker": name, "priority": job.priority})
            if JobsRepository(connection).complete(job.id, claim_token=job.claim_token) is None:
                connection.rollback()


if __name__ == "__main__":
    main(*sys.argv[1:])
