"""Skips scheduled flow runs that were due while no runner was running, except the latest of each schedule.

`deployments.serving.up` calls this module before a runner starts. `deployments.serving.start_checks` skips a scheduled
run that is due while an earlier one still runs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled

from deployments.serving.our_flow_runs import our_runs, was_due_before

#: A scheduled run that is late by this much counts as missed: no runner was running when it was due.
MISSED_SECONDS = 60


def skip_missed_runs() -> int:
    """Skip our scheduled runs that were missed, except the latest of each schedule; return how many were skipped.

    A run that has begun before and waits for its restart was not missed. Runs of work pools are left to their workers.
    """
    with get_client(sync_client=True) as client:
        due = was_due_before(datetime.now(UTC) - timedelta(seconds=MISSED_SECONDS))
        missed = our_runs(client, StateType.SCHEDULED, expected_start_time=due)
        by_schedule: dict[object, list[FlowRun]] = defaultdict(list)
        for run in missed:
            if run.auto_scheduled and not run.run_count and run.work_pool_name is None:
                by_schedule[run.deployment_id, json.dumps(run.parameters, sort_keys=True)].append(run)
        skipped = 0
        for runs in by_schedule.values():
            runs.sort(key=lambda run: run.expected_start_time or datetime.min.replace(tzinfo=UTC))
            for run in runs[:-1]:
                client.set_flow_run_state(
                    run.id,
                    Cancelled(
                        name="Skipped",
                        message="Missed, because no process served the definition. Only the latest missed run starts.",
                    ),
                    force=True,
                )
                skipped += 1
    return skipped
