"""Finds the tags that have a concurrency limit in Prefect. Only task runs with such a tag must ask for a slot."""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import ExitStack
from typing import TYPE_CHECKING

from flows.orchestration.prefect_link import ANSWER_SECONDS, link

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse

#: The time between two reads of the limits.
LOOK_SECONDS = 2.0

_PAGE = 200


class TagLimits:
    """Reads the concurrency limits of Prefect's tags regularly, from the first call of `apply_to` until `close`.

    While the server is unavailable, the limits of the last read apply.
    """

    def __init__(self) -> None:
        self._limited: frozenset[str] = frozenset()
        self._has_looked = threading.Event()
        self._asking: ExitStack | None = None

    def apply_to(self, tags: Collection[str]) -> bool:
        """Return whether one of the tags of a task run has a concurrency limit."""
        if self._asking is None:
            self._asking = ExitStack()
            self._asking.enter_context(link.asking(self._look, every_seconds=LOOK_SECONDS))
            self._has_looked.wait(ANSWER_SECONDS)
        return not self._limited.isdisjoint(f"tag:{tag}" for tag in tags)

    def close(self) -> None:
        """Stop reading the limits."""
        if self._asking is not None:
            self._asking.close()

    def _look(self, client: SyncPrefectClient) -> None:
        try:
            self._limited = _limited_names(client)
        finally:
            self._has_looked.set()


def _limited_names(client: SyncPrefectClient) -> frozenset[str]:
    limits: list[GlobalConcurrencyLimitResponse] = []
    while True:
        page = client.read_global_concurrency_limits(limit=_PAGE, offset=len(limits))
        limits += page
        if len(page) < _PAGE:
            return frozenset(limit.name for limit in limits if limit.active)
