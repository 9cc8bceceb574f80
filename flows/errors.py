"""What can go wrong while jobs run. Every class is a `PhotojobsError` and says in one sentence when it is raised."""

from __future__ import annotations

from storage.library.errors import UnsafePath
from task_definitions.errors import PhotojobsError


class FlowsError(PhotojobsError):
    """The parent of everything that flows raises."""


class PermanentStepError(FlowsError):
    """Raised by a handler for a failure that no repetition mends; the job, or the item, fails at once."""


def is_repeatable(error: BaseException) -> bool:
    """Whether a repetition may succeed; a path that leads out of the library does so again."""
    return not isinstance(error, PermanentStepError | UnsafePath)


class SkipItem(FlowsError):
    """Raised by a handler inside `ctx.item(...)` where there is nothing to do for the item; it ends as skipped."""


class MissingHandler(PermanentStepError):
    """A job's type has no handler in this installation."""


class ItemsFailed(FlowsError):
    """A job went through all of its items or projects, and some of them failed; it names how many and the first."""


class StepTimeout(FlowsError):
    """A handler was still at work when its step's `timeout_seconds` had passed."""


def reason_of(error: BaseException) -> str:
    """What an error says, fit for a message; the name of its class if it says nothing, or cannot say it."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the error is a handler's own, and its `__str__` may raise whatever it likes.
        return type(error).__name__


class ExecutorStop(BaseException):
    """The parent of what ends a handler from outside; no `except Exception` in a handler swallows it."""


class ClaimLost(ExecutorStop):
    """The job was canceled, or rescued and given to another executor: this one must not touch anything any more."""


class StopRequested(ExecutorStop):
    """The process is to end; the job goes back to the queue and costs no attempt."""


class PluginError(FlowsError):
    """An installed package promises a step type in the group `photojobs.steps`, and loading it failed."""


class JobFailed(FlowsError):
    """A job that a Prefect task run stood for ended as failed; the message is the job's."""


class NoFlowRun(FlowsError):
    """A call that needs a flow run was made outside of one."""


class RunBroken(FlowsError):
    """A flow run ended before its task did, for example because Prefect's server went away or the flow crashed."""

    def __init__(self, task_id: str, *, status: str, state: str) -> None:
        super().__init__(
            f"task {task_id}: its flow run ended ({state}) while the task is {status}. Prefect's server may have gone "
            "away. Nothing is lost: `photojobs up` or `photojobs worker` goes on with the task."
        )
        self.task_id = task_id


class MissingDask(FlowsError):
    """The settings ask for a Dask cluster, and the extra `dask` is not installed."""


class ClusterFailed(FlowsError):
    """A Dask cluster took a step's jobs and could run none of them."""
