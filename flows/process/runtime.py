"""The runtime: the database, settings, library, threads and image processes that the jobs of one process share.

`Runtime.open` also upgrades the schema of the database, by `storage.upkeep.schema_upgrade`.
"""

from __future__ import annotations

import atexit
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar, Self
from weakref import WeakValueDictionary

from flows.process.followed_jobs import FollowedJobs
from flows.process.heartbeat_thread import Heartbeat
from flows.telemetry.events import Events
from flows.telemetry.log_lines import log_events, structure_logs
from flows.telemetry.tracing import open_tracing
from storage.database.engine import Database
from storage.library.paths import Library
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.queue.claims import new_worker_id
from storage.queue.tasks import TasksRepository
from storage.queue.wakeups import Wakeups
from storage.settings import Settings

if TYPE_CHECKING:
    from flows.imaging.isolation.image_processing import ImageProcessing


_current: ContextVar[Runtime | None] = ContextVar("photojobs_runtime", default=None)
_of_process: list[Runtime] = []
_process_lock = threading.Lock()


class Runtime:
    """The parts of a process that runs jobs. Use it as a context manager, or call `close`.

    Args:
        database: a database that was migrated to the newest schema.
        settings: the settings of the process; by default, they are read from the environment and `photojobs.toml`.
    """

    #: Whether this is the runtime of a plan, whose database and library are copies.
    is_of_plan: ClassVar[bool] = False

    def __init__(self, database: Database, *, settings: Settings | None = None) -> None:
        self.database = database
        self.settings = settings or Settings.load()
        self.worker_id = new_worker_id(socket.gethostname())
        self.events = Events()
        log_events(self.events, self.settings)
        self.tracing = open_tracing()
        self.wakeups = Wakeups(database)
        self.heartbeat = Heartbeat(
            database,
            worker_id=self.worker_id,
            interval_seconds=self.settings.heartbeat_seconds,
            waiting=lambda: self.followed.next_in_line(),
        )
        self.pinned_definition = lru_cache(maxsize=256)(self._read_pinned_definition)
        self._lock = threading.Lock()
        # The event of a task is kept while other objects use it. `_stopped` keeps the latest events of stopped tasks
        # longer, because a handler may still need them.
        self._stopping: WeakValueDictionary[str | None, threading.Event] = WeakValueDictionary()
        self._stopped: deque[threading.Event] = deque(maxlen=1_000)
        self._images: ImageProcessing | None = None
        self.followed = FollowedJobs(
            database,
            settings=self.settings,
            worker_id=self.worker_id,
            wakeups=self.wakeups,
            stopping=self.stopping,
            on_followed=self.heartbeat.start,
        )

    @classmethod
    def current(cls) -> Runtime:
        """Return the runtime of the caller's context, or the runtime of the process, which opens at the first use."""
        runtime = _current.get()
        if runtime is not None:
            return runtime
        with _process_lock:
            if not _of_process:
                settings = Settings.load()
                structure_logs(settings)
                opened = cls.open(settings)
                atexit.register(opened.close)
                _of_process.append(opened)
            return _of_process[0]

    @staticmethod
    def current_settings() -> Settings:
        """Return the settings of the current runtime, or the settings of the environment if no runtime is open."""
        runtime = _current.get() or next(iter(_of_process), None)
        return Settings.load() if runtime is None else runtime.settings

    @staticmethod
    def is_planning() -> bool:
        """Return whether the caller runs in a plan. No runtime is opened."""
        runtime = _current.get()
        return runtime is not None and runtime.is_of_plan

    @contextmanager
    def as_current(self) -> Iterator[Self]:
        """Make this the current runtime in the block, and in the Prefect task runs that the block starts."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    @classmethod
    def open(cls, settings: Settings | None = None) -> Self:
        """Return a runtime on the database of the settings, after migrating it to the newest schema."""
        settings = settings or Settings.load()
        database = Database(settings.database_url.get_secret_value())
        database.migrate()
        return cls(database, settings=settings)

    @cached_property
    def library(self) -> Library:
        """The library on disk that the settings name."""
        return self.settings.library

    @property
    def images(self) -> ImageProcessing:
        """The processes that decode and encode images; they start at the first use."""
        with self._lock:
            if self._images is None:
                from flows.imaging.isolation.image_processing import open_image_processing

                self._images = open_image_processing(self.settings)
            return self._images

    def stopping(self, task_id: str | None) -> threading.Event:
        """Return the event that stops work of this process on a task, or on standalone jobs if `task_id` is None."""
        with self._lock:
            return self._event(task_id)

    @contextmanager
    def following(self, task_id: str | None) -> Iterator[None]:
        """Allow work on the task in the block, even if this process stopped working on it before."""
        with self._lock:
            stopping = self._event(task_id)
            if stopping.is_set():
                self._stopping[task_id] = stopping = threading.Event()
        try:
            yield
        finally:
            with self._lock:
                # `_stopping` alone would forget the event, but handlers of the stopped task may still need it.
                if stopping.is_set():
                    self._stopped.append(stopping)

    def stop_task(self, task_id: str | None) -> None:
        """Stop work of this process on a task, or on standalone jobs if `task_id` is None.

        Running jobs are handed back at their next checkpoint. Queued jobs are left to other processes.
        """
        stopping = self.stopping(task_id)
        stopping.set()
        self._stopped.append(stopping)
        self.followed.abandon(task_id)

    def _event(self, task_id: str | None) -> threading.Event:
        event = self._stopping.get(task_id)
        if event is None:
            self._stopping[task_id] = event = threading.Event()
        return event

    def close(self) -> None:
        """Stop the threads and the image processes, and close the database's connections."""
        self.followed.close()
        self.heartbeat.close()
        self.wakeups.close()
        with self._lock:
            if self._images is not None:
                self._images.close()
                self._images = None
        self.tracing.close()
        self.database.close()

    def _read_pinned_definition(self, task_id: str) -> PinnedDefinition:
        return PinnedDefinition.from_json(TasksRepository(self.database).get(task_id).definition_json)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
