"""Computes the moments of a schedule as Prefect's scheduler does.

`deployments.deploying.runner_deployments` decides when a schedule runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def schedule_moments(schedule: Mapping[str, Any], *, start: datetime, end: datetime, limit: int) -> list[datetime]:
    """Return the first moments of a schedule from `start` to `end`, at most `limit` of them.

    `schedule` is a cron, interval or RRule schedule in the form of Prefect's API.
    """
    # The import is here, because it takes seconds.
    from prefect.server.schemas.core import DeploymentSchedule

    parsed = DeploymentSchedule.model_validate({"schedule": schedule}).schedule
    return [*asyncio.run(parsed.get_dates(n=limit, start=start, end=end))]
