"""The errors of running jobs. The docstring of each class describes when the error is raised.

All classes are `PhotojobsError` classes, except `ExecutorStop` and its subclasses.
"""

from pathlib import PurePosixPath

from storage.errors import CorruptPayload, InvalidValue
from storage.library.errors import UnsafePath
from task_definitions.errors import DefinitionError, PhotojobsError
from task_definitions.wording import os_error_in_words, printable


class FlowsError(PhotojobsError):
    """The parent of all errors of `flows`."""


class PermanentStepError(FlowsError):
    """A handler raises this error if a repetition cannot succeed. The error causes no other attempt of the job."""


def is_repeatable(error: BaseException) -> bool:
    """Return whether another attempt may succeed after this error.

    Another attempt cannot succeed after a `PermanentStepError`. It cannot succeed either if a path is unsafe, a payload
    or a definition cannot be read, or the database refuses a value.
    """
    return not isinstance(error, PermanentStepError | UnsafePath | CorruptPayload | DefinitionError | InvalidValue)


class SkipItem(FlowsError):
    """A handler raises this error inside `ctx.item(...)` if the item needs no work; the item ends as skipped."""


class MissingHandler(PermanentStepError):
    """A job's type has no handler in this installation."""


class ItemsFailed(FlowsError):
    """Some files, items or projects of a job failed, and another attempt may succeed.

    The message has their number and the first reason.
    """


class StepTimeout(FlowsError):
    """A handler ran for longer than the `timeout_seconds` of its step."""


def reason_of(error: BaseException) -> str:
    """Return the text of an error, or the name of its class if the text is blank or cannot be computed.

    The text of an error of the operating system about a file has the path and what to check.
    """
    try:
        if isinstance(error, OSError) and error.strerror and error.filename is not None:
            text = printable(os_error_in_words(error))
        else:
            text = str(error)
    except Exception:  # noqa: BLE001 - the `__str__` of a handler's own error may raise any error.
        text = ""
    return text if text.strip() else type(error).__name__


def classed_reason_of(error: BaseException) -> str:
    """Return `reason_of`, with the name of the class before the text unless photojobs raised the error on purpose."""
    reason, kind = reason_of(error), type(error).__name__
    return reason if isinstance(error, PhotojobsError) or reason == kind else f"{kind}: {reason}"


def named(name: str, reason: str) -> str:
    """Return `name: reason`, but do not repeat a file name with which the reason begins.

    `Alps/IMG_1.jpg` and `IMG_1.jpg: is empty` give `Alps/IMG_1.jpg: is empty`. The base name `IMG_1` and
    `IMG_1.jpg: is empty` give the reason alone.

    Args:
        name: the name of a project, the base name of a photo, or the path of a file.
        reason: why the object failed or was left unchanged; it may begin with a file name and a colon.
    """
    file, colon, rest = reason.partition(": ")
    if colon and file == PurePosixPath(name).name:
        return f"{name}: {rest}"
    return reason if colon and file.startswith(f"{name}.") else f"{name}: {reason}"


class ExecutorStop(BaseException):
    """The parent of the exceptions that stop a handler from outside. `except Exception` does not catch them."""


class ClaimLost(ExecutorStop):
    """The job was canceled or given to another executor, so this executor must change nothing more for the job."""


class StopRequested(ExecutorStop):
    """The process was asked to end, or to stop its work on the task.

    The job returns to the queue, and this attempt is not counted.
    """


class PluginError(FlowsError):
    """A step type that an installed package declares in the entry-point group `photojobs.steps` could not be loaded.

    The error is also raised if two handlers have the same step type, or if the description and the handler of a step
    type have different units.
    """


class RunBroken(FlowsError):
    """A flow run ended before its task ended, for example because Prefect's server stopped or the flow crashed.

    `reason` is the message without the id of the task and without the commands that continue the task.
    """

    def __init__(self, task_id: str, *, status: str, state: str) -> None:
        self.task_id = task_id
        self.reason = f"its flow run ended ({state}) while the task is {status}. Prefect's server may have stopped."
        super().__init__(
            f"task {task_id}: {self.reason} Nothing is lost: `photojobs up` or `photojobs worker` continues the task."
        )


class MissingDask(FlowsError):
    """The settings ask for a Dask cluster, but the extra `dask` is not installed."""


class ClusterFailed(FlowsError):
    """A Dask cluster could run none of the jobs of a step."""
