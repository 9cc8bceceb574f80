"""The errors of running jobs. Each class is a `PhotojobsError`; its docstring says when it is raised."""

from __future__ import annotations

from storage.library.errors import UnsafePath
from task_definitions.errors import PhotojobsError


class FlowsError(PhotojobsError):
    """The parent of all errors of `flows`."""


class PermanentStepError(FlowsError):
    """Raised by a handler if a repetition cannot succeed; the job, or the item, fails at once."""


def is_repeatable(error: BaseException) -> bool:
    """Whether a repetition may succeed. A path that leaves the library does so each time."""
    return not isinstance(error, PermanentStepError | UnsafePath)


class SkipItem(FlowsError):
    """Raised by a handler inside `ctx.item(...)` if there is nothing to do for the item; it ends as skipped."""


class MissingHandler(PermanentStepError):
    """A job's type has no handler in this installation."""


class ItemsFailed(FlowsError):
    """Some items or projects of a job failed; the message has their number and the first reason."""


class StepTimeout(FlowsError):
    """A handler ran for longer than the `timeout_seconds` of its step."""


def reason_of(error: BaseException) -> str:
    """The text of an error; the name of its class if the text is empty or cannot be computed."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the `__str__` of a handler's own error may raise any error.
        return type(error).__name__


class ExecutorStop(BaseException):
    """The parent of what stops a handler from outside. `except Exception` in a handler does not catch it."""


class ClaimLost(ExecutorStop):
    """The job was canceled, or given to another executor: this executor must not change anything for it any more."""


class StopRequested(ExecutorStop):
    """The process is to end. The job goes back to the queue, without an attempt more."""


class PluginError(FlowsError):
    """A step type that an installed package declares in the group `photojobs.steps` could not be loaded."""


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
    """A Dask cluster could run none of the jobs of a step."""
