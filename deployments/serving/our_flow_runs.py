"""Reads our flow runs from Prefect's server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.starting.deployment_names import TAG

#: How many flow runs Prefect's server returns in one page, at most.
PAGE_SIZE = 200


def our_runs(client: SyncPrefectClient, *types: StateType, tags: Sequence[str] = (), **more: Any) -> list[FlowRun]:
    """Return our flow runs in a state of these types that also have these tags, and match further filters by name."""
    ours = FlowRunFilterTags(all_=[TAG, *tags])
    return all_flow_runs(client, FlowRunFilter(tags=ours, state=in_state(*types), **more))


def all_flow_runs(client: SyncPrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    """Return all flow runs that match a filter; Prefect's server returns one page at a time."""
    found: dict[UUID, FlowRun] = {}
    offset = 0
    while page := client.read_flow_runs(
        flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=PAGE_SIZE, offset=offset
    ):
        found.update({run.id: run for run in page})
        offset += len(page)
        if len(page) < PAGE_SIZE:
            break
    return list(found.values())


def in_state(*types: StateType) -> FlowRunFilterState:
    """Return the filter of flow runs whose state has one of these types."""
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))


def has_ended_within(age: timedelta) -> FlowRunFilterEndTime:
    """Return the filter of flow runs that ended so recently."""
    return FlowRunFilterEndTime(after_=datetime.now(UTC) - age)  # type: ignore[arg-type]


def was_due_before(moment: datetime) -> FlowRunFilterExpectedStartTime:
    """Return the filter of flow runs that were first scheduled for an earlier moment."""
    return FlowRunFilterExpectedStartTime(before_=moment)  # type: ignore[arg-type]


def is_due(run: FlowRun) -> bool:
    """Return False if a flow run is scheduled for a later time."""
    # A run keeps its first `expected_start_time` when it is scheduled again.
    return run.next_scheduled_start_time is None or run.next_scheduled_start_time <= datetime.now(UTC)
