"""Stores all state: SQL tables, repositories, the state machine, and the library on disk. It never uses Prefect.

Each folder is a room with one purpose. `docs/architecture.md` lists the rooms and what each of them decides.

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
    from storage.reports.task_summary import StepSummary, TaskSummary, summarize_task
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
    "summarize_task",
]

#: The public names of each module.
_NAMES = {
    "storage.database.engine": ("Database",),
    "storage.errors": ("StorageError",),
    "storage.photos.photo_selection": ("PhotoSelection",),
    "storage.photos.photos": ("PhotosRepository",),
    "storage.photos.projects": ("ProjectsRepository",),
    "storage.queue.holds": ("Hold", "HoldKind", "HoldsRepository"),
    "storage.queue.jobs": ("JobsRepository",),
    "storage.queue.lanes": ("LanesRepository",),
    "storage.queue.tasks": ("TasksRepository",),
    "storage.records": ("ItemStatus", "Job", "JobItem", "JobStatus", "Lane", "Photo", "Project", "Task", "TaskStatus"),
    "storage.reports.task_summary": ("StepSummary", "TaskSummary", "summarize_task"),
    "storage.settings": ("Settings",),
    "task_definitions": ("MAX_ITEMS_PER_JOB",),
}


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
