"""Sees that a flow run was canceled in Prefect, for runs that no runner watches over, such as those of scripts.

Prefect's runners and workers end the process of a canceled run themselves; a run in the caller's own process is only
marked, and goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType

from flows.prefect_client import impatient_client

logger = logging.getLogger("photojobs.cancellation")

#: How often Prefect is asked.
WATCH_SECONDS = 3.0

#: For so long a single answer is waited for.
ANSWER_SECONDS = 10.0


class CancellationWatch:
    """Watches a flow run from a thread of its own. Use it as a context manager around the run's work.

    Args:
        flow_run_id: the run; None, outside of one, watches nothing.
        cancel: called once, in the watching thread, when the run was canceled; what it raises is logged, and it is
            called again at the next look.
    """

    def __init__(self, flow_run_id: str | None, cancel: Callable[[], object]) -> None:
        self._flow_run_id = flow_run_id
        self._cancel = cancel
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="photojobs-cancellation", daemon=True)

    def __enter__(self) -> Self:
        if self._flow_run_id:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Not waited for: it may be waiting for a server that is away.
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(WATCH_SECONDS):
            try:
                with impatient_client(answer_seconds=ANSWER_SECONDS) as client:
                    while not self._stopped.is_set():
                        if self._is_canceled(client) and not self._stopped.is_set():
                            self._cancel()
                            return
                        self._stopped.wait(WATCH_SECONDS)
            except Exception as error:  # noqa: BLE001 - a server or a database that is away comes back.
                logger.info("could not see whether the flow run was canceled: %s", error)

    def _is_canceled(self, client: SyncPrefectClient) -> bool:
        state = client.read_flow_run(UUID(self._flow_run_id)).state
        return state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED)
