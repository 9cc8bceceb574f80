"""Where state lives: SQL tables, repositories, the state machine, and the library on disk. Knows nothing of Prefect."""

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
