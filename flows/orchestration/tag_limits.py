"""Asks ahead whether Prefect limits the tags of our task runs, so that not each of them has to ask for a slot.

Before a task run with tags begins, Prefect asks its server for a slot of each tag, and remembers for five seconds where
no tag has a limit. The question is a write: a server on SQLite that is recording task runs refuses it, Prefect's client
repeats it after two, four and eight seconds, and no other task run with these tags begins meanwhile. Here the limits
are read, which the server never refuses for that reason, and what Prefect remembers is kept fresh.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Self

from prefect.concurrency import services

from flows.starting.prefect_client import impatient_client

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger("photojobs.tag_limits")

#: How often the limits are read; Prefect forgets after five seconds. A new limit counts after seven at the latest.
LOOK_SECONDS = 2.0

#: For so long a single answer is waited for.
ANSWER_SECONDS = 10.0

#: For so long task runs are held up by a look; then they ask by themselves.
AHEAD_SECONDS = 2.0

_PAGE = 200


class TagLimits:
    """Keeps Prefect told, from a thread of its own, which tags have no limit. Use it as a context manager.

    A limit that somebody sets on one of the tags counts as ever. Where this Prefect has no such memory, or its server
    does not answer, each task run asks by itself.
    """

    def __init__(self) -> None:
        # Not part of Prefect's interface, so it may be gone in another version.
        self._unlimited: MutableMapping[frozenset[str], bool] | None = getattr(services, "_no_limits_cache", None)
        self._guard: Any = getattr(services, "_cache_lock", None)
        self._wanted: set[frozenset[str]] = set()
        self._changed = threading.Condition()
        self._has_looked = True
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="photojobs-tag-limits", daemon=True)

    def ask_ahead(self, tags_of_runs: Iterable[Iterable[str]]) -> None:
        """Look once whether one of the tags has a limit, before the task runs begin; of each run all of its tags."""
        if self._unlimited is None or self._guard is None:
            return
        names_of_runs = {frozenset(f"tag:{tag}" for tag in tags) for tags in tags_of_runs}
        with self._changed:
            if names_of_runs <= self._wanted or self._is_closed:
                return
            self._wanted |= names_of_runs
            self._has_looked = False
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._has_looked, AHEAD_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Not waited for: it may be waiting for a server that is away.
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._is_closed:
            try:
                with impatient_client(answer_seconds=ANSWER_SECONDS) as client:
                    while not self._is_closed:
                        self._rest(looked_for=self._look(client))
            except Exception as error:  # noqa: BLE001 - a server that is away comes back.
                logger.info("could not read the limits of tags: %s", error)
                self._rest(looked_for=self._wanted)

    def _look(self, client: SyncPrefectClient) -> set[frozenset[str]]:
        with self._changed:
            wanted = set(self._wanted)
        limited = _limited_names(client)
        for names in wanted:
            if self._unlimited is not None and not names & limited:
                with self._guard:
                    self._unlimited[names] = True
        return wanted

    def _rest(self, *, looked_for: set[frozenset[str]]) -> None:
        """Let those go on who waited for this look, and wait for the next one."""
        with self._changed:
            self._has_looked = looked_for == self._wanted
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_closed or not self._has_looked, LOOK_SECONDS)


def _limited_names(client: SyncPrefectClient) -> frozenset[str]:
    names: list[str] = []
    while True:
        page = client.read_global_concurrency_limits(limit=_PAGE, offset=len(names))
        names += [limit.name for limit in page]
        if len(page) < _PAGE:
            return frozenset(names)
