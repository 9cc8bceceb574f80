"""Ends jobs and claims the best queued jobs, if possible in one transaction.

Ending a job locks no task. After the commit, a query finds the tasks whose current step has no unfinished job left.
Each of these tasks is settled in its own transaction: it goes to its next step, or ends. If two jobs end at the same
moment, at least the later query sees both ends. If a process dies between the end and the settling, the next sweep
settles the task. A sweep is a check that workers and flow runs of tasks repeat every few seconds.

`storage.queue.exchange_statements` decides which queued job is the best, and `storage.queue.claims` in lanes with aging
or fairness.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from storage.database.column_types import encode_json
from storage.database.driver_statement import Runs, Step
from storage.database.engine import Access
from storage.errors import DatabaseFault
from storage.lifecycle.notifications import fresh, notify_followers
from storage.lifecycle.state_machine import NO_REASON, cut, settle_task
from storage.queue.claims import ANY_PRIORITY, Claimant, claim_in_special_lane, rank
from storage.queue.exchange_statements import (
    END_SQLITE,
    KEEP_PROJECTS_SQLITE,
    LOOK_POSTGRESQL,
    LOOK_SQLITE,
    OPEN_LANES_SQLITE,
    PREPARE_POSTGRESQL,
    PROMOTE_SQLITE,
    exchange_statement,
    take_sqlite,
)
from storage.queue.lanes import LanesRepository
from storage.records import Job, JobStatus

logger = logging.getLogger("photojobs.queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of a job.

    Attributes:
        job_id: the job.
        status: `completed`, `failed` or `canceled`.
        claim_token: the job ends only if it has this token; if None, it ends whether it is queued or running.
        error_message: the reason; cut at 1000 characters.
        result: the result of the handler, as `storage.lifecycle.job_rows.checked_result` returns it.
    """

    job_id: int
    status: JobStatus
    claim_token: str | None = None
    error_message: str | None = None
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The jobs to claim: jobs of lanes, or jobs with priorities in a range.

    Attributes:
        lanes: the names of lanes; jobs of the first lane are claimed before jobs of the next lane. The slots, holds,
            aging and fairness of the lanes apply. If None, `bounds` applies.
        bounds: the lowest and the highest priority, both inclusive, regardless of lanes.
        tenant_id: claim only jobs of this tenant; None for all tenants.
        job_ids: claim only these jobs of `lanes`, for which the executor waits; None for any. They compete with the
            jobs for which other live processes wait: with N free slots in a lane, the best N jobs of both groups get a
            slot. The list may be empty; `tenant_id` does not apply to it.
    """

    lanes: Sequence[str] | None = None
    bounds: tuple[int, int] = ANY_PRIORITY
    tenant_id: str | None = None
    job_ids: Sequence[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """The result of an exchange: the jobs that it ended, and the jobs that it claimed.

    Jobs that had ended before, and jobs with another claim token, are not in `ended`. In `claimed`, the jobs that one
    transaction claimed are sorted, best first.
    """

    ended: tuple[Job, ...]
    claimed: tuple[Job, ...]


@dataclass(slots=True, kw_only=True)
class _Round:
    """The result of one transaction.

    Attributes:
        ended: the jobs that it ended.
        claimed: the jobs that it claimed.
        stuck: the tasks that may have to be settled; None if they are not known yet.
        special_lane: the lane with aging or fairness at which the claim stopped.
        unknown_lane: the lane in `wanted` that does not exist.
        is_partial: whether another transaction, which locks lanes, can claim more.
    """

    ended: list[Job]
    claimed: list[Job]
    stuck: list[str] | None
    special_lane: str | None = None
    unknown_lane: str | None = None
    is_partial: bool = False


def exchange(
    access: Access, worker_id: str, wanted: Wanted | None = None, *, limit: int = 0, ended: Sequence[End] = ()
) -> Exchanged:
    """End jobs, claim up to `limit` jobs that match `wanted`, and settle the tasks of the ended jobs.

    If the result of a call was lost, the call can be repeated: jobs that have ended stay unchanged, and their tasks are
    checked again. Inside the caller's transaction, `ended` must be empty.

    Raises:
        UnknownLane: a lane in `wanted` does not exist. No job was claimed, but the jobs in `ended` have ended.
    """
    claimant = Claimant(worker_id=worker_id, now=access.clock())
    found = _one_round(access, claimant, wanted, limit, ended)
    claimed = found.claimed
    try:
        if found.is_partial and wanted is not None and limit > len(claimed):
            # Tasks are settled after this claim, because the jobs of their next steps must be claimed last.
            rest = _one_round(access, claimant, wanted, limit - len(claimed), ())
            claimed += rest.claimed
            found.special_lane, found.unknown_lane, found.is_partial = rest.special_lane, rest.unknown_lane, False
        if found.stuck is None:
            found.stuck = _task_ids(access.run(*_look(access, [end.job_id for end in ended], claimant.now)))
        for task_id in found.stuck:
            # The task gets the same end time as its last job.
            _settle(access, task_id, now=claimant.now)
        if limit > len(claimed) and wanted is not None:
            _take_more(access, claimant, wanted, limit, found)
    except DatabaseFault as error:
        if not claimed or access.database is None:
            raise
        # The caller must get the claimed jobs, which are committed, so no error is raised.
        later = ""
        if ended:
            after = _in_words([end.job_id for end in ended])
            later = f"; if a step follows {after}, `photojobs up` or a worker starts that step"
        logger.warning(
            "the database failed (%s) after this process had claimed %s; no claim is lost%s",
            *(error, _in_words([job.id for job in claimed]), later),
        )
    return Exchanged(ended=tuple(found.ended), claimed=tuple(claimed))


def _take_more(access: Access, claimant: Claimant, wanted: Wanted, limit: int, found: _Round) -> None:
    """Claim what the first transaction could not claim; `found.claimed` gets at most `limit` jobs in all."""
    if found.unknown_lane is not None:
        with access.read() as connection:
            LanesRepository(connection).get(found.unknown_lane)
    # The list is extended after each transaction, so an error does not lose the jobs that earlier transactions claimed.
    claimed = found.claimed
    # If the claim is still partial, the call of `exchange` below first claims from the lanes before the special lane.
    if found.special_lane is not None and not found.is_partial:
        assert wanted.lanes is not None  # noqa: S101 - the special lane is one of them.
        claimed += _take_in_special_lane(access, claimant, wanted, found.special_lane, limit - len(claimed))
        wanted = replace(wanted, lanes=wanted.lanes[wanted.lanes.index(found.special_lane) + 1 :])
    # Nothing more can be claimed if the claim is not partial and no task was settled: only a settled task brings more
    # jobs, those of its next step. `job_ids` has none of these, so a claim of given jobs is complete.
    elif not found.is_partial and (not found.stuck or wanted.job_ids is not None):
        return
    if len(claimed) < limit and (wanted.lanes is None or len(wanted.lanes) > 0):
        claimed += exchange(access, claimant.worker_id, wanted, limit=limit - len(claimed)).claimed


def settle_after(access: Access, job_ids: Sequence[int]) -> None:
    """Settle the tasks of jobs that another function has ended. Call this after that function's commit.

    The transaction that ended the jobs cannot see that `exchange` ended other jobs at the same time; a later query can
    see this. Does nothing if `access` belongs to the caller's transaction.
    """
    if job_ids and access.database is not None:
        for task_id in _task_ids(access.run(*_look(access, job_ids, access.clock()))):
            _settle(access, task_id, now=access.clock())


def _settle(access: Access, task_id: str, *, now: datetime) -> None:
    with access.write() as connection:
        settle_task(connection, task_id, now=now)
        notify_followers(connection, [task_id], now=now)


def _look(access: Access, job_ids: Sequence[int], now: datetime) -> Step:
    """Return the query of the tasks that must be settled because these jobs have ended."""
    return LOOK_POSTGRESQL if access.is_postgresql else LOOK_SQLITE, {"job_ids": list(job_ids), **fresh(now)}


def _task_ids(looked: Sequence[Any]) -> list[str]:
    return [task_id for (task_id,) in looked if task_id is not None]


def _take_in_special_lane(access: Access, claimant: Claimant, wanted: Wanted, lane: str, limit: int) -> list[Job]:
    with access.write() as connection:
        found = LanesRepository(connection).get(lane)
        return claim_in_special_lane(
            connection, claimant, lane=found, tenant_id=wanted.tenant_id, limit=limit, job_ids=wanted.job_ids
        )


def _one_round(access: Access, claimant: Claimant, wanted: Wanted | None, limit: int, ended: Sequence[End]) -> _Round:
    if wanted is None:
        limit = 0
    if limit <= 0 and not ended:
        return _Round(ended=[], claimed=[], stuck=[])
    if access.is_postgresql:
        return _on_postgresql(access, claimant, wanted or Wanted(), limit, ended)
    if wanted is None and len(ended) == 1 and ended[0].claim_token is not None:
        # Only one of the statements in `_on_sqlite` writes, so they need no common transaction.
        return _on_sqlite(access.run, claimant, Wanted(), limit, ended)
    with access.run_in_transaction() as run:
        return _on_sqlite(run, claimant, wanted or Wanted(), limit, ended)


def _on_postgresql(access: Access, claimant: Claimant, wanted: Wanted, limit: int, ended: Sequence[End]) -> _Round:
    values = {
        **claimant.parameters(),
        **fresh(claimant.now),
        "ended": json.dumps([_as_given(end) for end in sorted(ended, key=lambda end: end.job_id)]),
        "limit": limit,
        "lanes": list(wanted.lanes or ()),
        "min_priority": wanted.bounds[0],
        "max_priority": wanted.bounds[1],
        "tenant_id": wanted.tenant_id,
        "job_ids": list(wanted.job_ids or ()),
    }
    step = exchange_statement(
        of_lanes=wanted.lanes is not None,
        for_tenant=wanted.tenant_id is not None and wanted.job_ids is None,
        is_awaited=wanted.lanes is not None and wanted.job_ids is not None,
    )
    known: Sequence[str] = wanted.lanes or ()
    stuck = None
    # A job that is ended without a claim token may have been running, or only queued. This statement cannot know
    # whether a slot becomes free, so it claims nothing; the next transaction counts the slots.
    is_counted = all(end.claim_token is not None for end in ended)
    if limit <= 0 or not is_counted:
        values["limit"] = 0
        look = _look(access, [end.job_id for end in ended], claimant.now)
        [answer], looked = access.run_together([(step, values)], [look])
        stuck = _task_ids(looked)
    elif limit <= len(ended):
        [answer] = access.run(step, values)
    else:
        # The claim may need more slots than the ended jobs free, so the lanes must be locked.
        [[known, _]], [answer] = access.run_together([(PREPARE_POSTGRESQL, values), (step, values)])
    jobs, special_lane, is_partial, must_look = answer
    return _Round(
        ended=[job for job in jobs if job.status != JobStatus.RUNNING],
        claimed=_ranked([job for job in jobs if job.status == JobStatus.RUNNING]),
        # A claim that ends no job must not wake other processes: each of them would claim, too, and wake the others
        # again.
        stuck=[] if stuck is None and not (ended and must_look) else stuck,
        special_lane=special_lane,
        unknown_lane=_first_unknown(wanted.lanes or (), known),
        is_partial=is_partial or not is_counted,
    )


def _on_sqlite(run: Runs, claimant: Claimant, wanted: Wanted, limit: int, ended: Sequence[End]) -> _Round:
    done = _Round(ended=[], claimed=[], stuck=[])
    for end in ended:
        given = _as_given(end)
        done.ended += run(END_SQLITE, given | {"now": claimant.now})
    if any(end.claim_token is None for end in ended):
        # An end without a token does not come from the job's executor; for example, a user has canceled the job. The
        # executor may still work in the project, so the job's claim on the project is renewed.
        run(KEEP_PROJECTS_SQLITE, {"job_ids": [job.id for job in done.ended], "now": claimant.now})
    if len(done.ended) < len(ended) or any(job.task_id is not None for job in done.ended):
        done.stuck = [task_id for (task_id,) in run(LOOK_SQLITE, {"job_ids": [end.job_id for end in ended]})]
    if limit <= 0:
        return done
    run(PROMOTE_SQLITE, {"now": claimant.now})
    for bounds, free in [(wanted.bounds, limit)] if wanted.lanes is None else _open_lanes(run, wanted, done):
        room = min(free, limit - len(done.claimed))
        if room <= 0:
            continue
        take = {**claimant.parameters(), "limit": room, "min_priority": bounds[0], "max_priority": bounds[1]}
        if wanted.job_ids is not None:
            take |= {"free": free, "job_ids": list(wanted.job_ids), **fresh(claimant.now)}
            done.claimed += _ranked(run(take_sqlite(is_awaited=True), take))
            continue
        if wanted.tenant_id is not None:
            take["tenant_id"] = wanted.tenant_id
        done.claimed += _ranked(run(take_sqlite(for_tenant=wanted.tenant_id is not None), take))
    return done


def _open_lanes(run: Runs, wanted: Wanted, done: _Round) -> list[tuple[tuple[int, int], int]]:
    """Return the bounds and the number of free slots of each open lane, up to the first with aging or fairness.

    A lane is open if it is not on hold and has a free slot. If a lane does not exist, the list is empty.
    """
    assert wanted.lanes is not None  # noqa: S101 - the caller has checked it.
    found = run(OPEN_LANES_SQLITE, {"lanes": list(wanted.lanes)})
    done.unknown_lane = _first_unknown(wanted.lanes, [name for name, *_ in found])
    lanes: list[tuple[tuple[int, int], int]] = []
    if done.unknown_lane is not None:
        return lanes
    for name, lowest, highest, free, is_plain, is_released in found:
        if not is_released or (free is not None and free <= 0):
            continue
        if not is_plain:
            done.special_lane = name
            break
        lanes.append(((lowest, highest), sys.maxsize if free is None else free))
    return lanes


def _ranked(claimed: list[Job]) -> list[Job]:
    return claimed if len(claimed) < 2 else sorted(claimed, key=rank)


def _as_given(end: End) -> dict[str, Any]:
    message = end.error_message
    if end.status == JobStatus.FAILED:
        message = message or NO_REASON
    return {
        "id": end.job_id,
        "claim_token": end.claim_token,
        "status": str(end.status),
        "error_message": None if message is None else cut(message),
        "result": None if end.result is None else encode_json(dict(end.result)),
    }


def _in_words(job_ids: Sequence[int]) -> str:
    return f"{'job' if len(job_ids) == 1 else 'jobs'} {', '.join(map(str, job_ids))}"


def _first_unknown(wanted: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in wanted if name not in known), None)
