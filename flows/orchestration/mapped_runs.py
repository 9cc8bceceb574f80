"""Where the mapped task runs of a flow run work: in threads of its process, or in a Dask cluster's processes.

Only job ids travel. Each process opens a runtime of its own, from its own environment.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from flows.errors import ClusterFailed, MissingDask
from flows.orchestration.job_task_runner import JobTaskRunner
from storage.settings import Settings

#: Jobs that a worker of a Dask cluster follows at a time; how many run is the setting `concurrency`.
DASK_THREADS = 128


def task_runner_of(settings: Settings) -> TaskRunner[PrefectFuture[Any]]:
    """The task runner that the settings ask for.

    Raises:
        MissingDask: it is Dask, and the extra that brings it is not installed.
    """
    if settings.task_runner != "dask":
        return JobTaskRunner()
    if find_spec("prefect_dask") is None:
        raise MissingDask(
            'the setting task_runner is "dask", and the package prefect-dask is missing; install it with '
            "`pip install 'photojobs[dask]'`, or set task_runner to threads"
        )
    from prefect_dask.task_runners import DaskTaskRunner

    if settings.dask_address is not None:
        runner: Any = DaskTaskRunner(address=settings.dask_address)
    else:
        # A run that waits for its turn takes a thread; with a few only, those that may run could not begin.
        cluster = {
            "n_workers": settings.dask_workers,
            "threads_per_worker": DASK_THREADS,
            "processes": True,
            "dashboard_address": None,
        }
        runner = DaskTaskRunner(cluster_kwargs=cluster)
    return cast("TaskRunner[PrefectFuture[Any]]", runner)


def raise_if_none_ran(futures: Collection[PrefectFuture[Any]]) -> None:
    """Give up where a Dask cluster could run none of the latest jobs; the same would happen to the next ones.

    Raises:
        ClusterFailed: not one task run came to an end of its own; names what Dask says.
    """
    outcomes: list[Any] = [getattr(future, "wrapped_future", None) for future in futures]
    # Only Dask's futures have a status; threads either run or are not there.
    broken = [outcome for outcome in outcomes if getattr(outcome, "status", "") in ("error", "lost", "cancelled")]
    if broken and len(broken) == len(futures):
        first = broken[0]
        reason = repr(first.exception()) if first.status == "error" else f"its task was {first.status}"
        raise ClusterFailed(
            f"the Dask cluster ran none of {len(futures)} jobs: {reason}. Its workers need this very installation, and "
            "the settings of this process in their environment."
        )
