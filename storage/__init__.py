"""Stores all state: SQL tables, repositories, the state machine, and the library on disk. It does not use Prefect.

Each name below is loaded on first use, so that a command that only needs the settings does not load SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.database.engine import Database
    from storage.errors import StorageError
    from storage.photos.photo_selection import PhotoSelection
    from storage.photos.photos import PhotosRepository
    from storage.photos.projects import ProjectsRepository
    from storage.queue.holds import Hold, HoldKind, HoldsRepository
    from storage.queue.jobs import JobsRepository
    from storage.queue.lanes import LanesRepository
    from storage.queue.tasks import TasksRepository
    from storage.records import ItemStatus, Job, JobItem, JobStatus, Lane, Photo, Project, Task, TaskStatus
    from storage.reports.task_summary import StepSummary, TaskSummary, summarise_task
    from storage.settings import Settings
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
    "Database": "storage.database.engine",
    "Hold": "storage.queue.holds",
    "HoldKind": "storage.queue.holds",
    "HoldsRepository": "storage.queue.holds",
    "ItemStatus": "storage.records",
    "Job": "storage.records",
    "JobItem": "storage.records",
    "JobStatus": "storage.records",
    "JobsRepository": "storage.queue.jobs",
    "Lane": "storage.records",
    "LanesRepository": "storage.queue.lanes",
    "MAX_ITEMS_PER_JOB": "task_definitions",
    "Photo": "storage.records",
    "PhotoSelection": "storage.photos.photo_selection",
    "PhotosRepository": "storage.photos.photos",
    "Project": "storage.records",
    "ProjectsRepository": "storage.photos.projects",
    "Settings": "storage.settings",
    "StepSummary": "storage.reports.task_summary",
    "StorageError": "storage.errors",
    "Task": "storage.records",
    "TaskStatus": "storage.records",
    "TaskSummary": "storage.reports.task_summary",
    "TasksRepository": "storage.queue.tasks",
    "summarise_task": "storage.reports.task_summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
