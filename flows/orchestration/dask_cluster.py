"""Dask: the task runner of a cluster, whose workers run the jobs of flow runs if the setting `task_runner` is `dask`.

Dask's workers get only job ids. Each of them opens its own runtime from its own environment.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from flows.errors import ClusterFailed, MissingDask
from storage.settings import Settings
from task_definitions.wording import quantity

#: How many jobs each worker of a new cluster follows at a time. The setting `concurrency` limits how many of them run.
DASK_THREADS = 128


def dask_task_runner(settings: Settings) -> TaskRunner[PrefectFuture[Any]]:
    """Return the task runner of the Dask cluster that the settings name, or of a new cluster.

    Raises:
        MissingDask: the extra for Dask is not installed.
    """
    if find_spec("prefect_dask") is None:
        raise MissingDask(
            'the setting task_runner is "dask", and the package prefect-dask is missing; install it with '
            "`pip install 'photojobs[dask]'`, or set task_runner to threads"
        )
    from prefect_dask.task_runners import DaskTaskRunner

    if settings.dask_address is not None:
        runner: Any = DaskTaskRunner(address=settings.dask_address)
    else:
        # Each waiting task run occupies a thread. If such runs occupied all threads, no job could begin.
        cluster = {
            "n_workers": settings.dask_workers,
            "threads_per_worker": DASK_THREADS,
            "processes": True,
            "dashboard_address": None,
        }
        runner = DaskTaskRunner(cluster_kwargs=cluster)
    return cast("TaskRunner[PrefectFuture[Any]]", runner)


def raise_if_none_ran(futures: Collection[PrefectFuture[Any]]) -> None:
    """Raise an error if a Dask cluster ran none of the latest jobs, because it would not run the next jobs either.

    Raises:
        ClusterFailed: Dask ran none of the task runs; the message has Dask's reason.
    """
    outcomes: list[Any] = [getattr(future, "wrapped_future", None) for future in futures]
    # Only Dask's futures have a status.
    broken = [outcome for outcome in outcomes if getattr(outcome, "status", "") in ("error", "lost", "cancelled")]
    if broken and len(broken) == len(futures):
        first = broken[0]
        reason = repr(first.exception()) if first.status == "error" else f"the first task in Dask was {first.status}"
        raise ClusterFailed(
            f"the Dask cluster did not run {quantity(len(futures), 'job')}: {reason}. The cluster's workers need the "
            "same installation as this process, and the same settings in their environment."
        )
