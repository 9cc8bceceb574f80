"""Where state lives: SQL tables, repositories, the state machine, and the library on disk. Knows nothing of Prefect.

The names below are loaded when they are first used: a command that reads its settings need not wait for SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.database import Database
    from storage.errors import StorageError
    from storage.holds import Hold, HoldKind, HoldsRepository
    from storage.jobs import JobsRepository
    from storage.lanes import LanesRepository
    from storage.photo_selection import PhotoSelection
    from storage.photos import PhotosRepository
    from storage.projects import ProjectsRepository
    from storage.records import ItemStatus, Job, JobItem, JobStatus, Lane, Photo, Project, Task, TaskStatus
    from storage.settings import Settings
    from storage.task_summary import StepSummary, TaskSummary, summarise_task
    from storage.tasks import TasksRepository
    from task_definitions import MAX_ITEMS_PER_JOB

__all__ = [
    "MAX_ITEMS_PER_JOB",
    "Database",
    "Hold",
    "HoldKind",
    "HoldsRepository",
    "ItemStatus",
    "Job",
    "JobItem",
    "JobStatus",
    "JobsRepository",
    "Lane",
    "LanesRepository",
    "Photo",
    "PhotoSelection",
    "PhotosRepository",
    "Project",
    "ProjectsRepository",
    "Settings",
    "StepSummary",
    "StorageError",
    "Task",
    "TaskStatus",
    "TaskSummary",
    "TasksRepository",
    "summarise_task",
]

_HOMES = {
    "Database": "storage.database",
    "Hold": "storage.holds",
    "HoldKind": "storage.holds",
    "HoldsRepository": "storage.holds",
    "ItemStatus": "storage.records",
    "Job": "storage.records",
    "JobItem": "storage.records",
    "JobStatus": "storage.records",
    "JobsRepository": "storage.jobs",
    "Lane": "storage.records",
    "LanesRepository": "storage.lanes",
    "MAX_ITEMS_PER_JOB": "task_definitions",
    "Photo": "storage.records",
    "PhotoSelection": "storage.photo_selection",
    "PhotosRepository": "storage.photos",
    "Project": "storage.records",
    "ProjectsRepository": "storage.projects",
    "Settings": "storage.settings",
    "StepSummary": "storage.task_summary",
    "StorageError": "storage.errors",
    "Task": "storage.records",
    "TaskStatus": "storage.records",
    "TaskSummary": "storage.task_summary",
    "TasksRepository": "storage.tasks",
    "summarise_task": "storage.task_summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
