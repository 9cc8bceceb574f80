"""Sending what people see in Prefect from a thread of its own: a server that is slow or away holds up no work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass

logger = logging.getLogger("photojobs.publishing")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    send: Callable[[], None]
    context: Context


class Publisher:
    """Sends messages in the background, of each kind the latest alone; what cannot be sent is logged and dropped.

    Args:
        interval_seconds: the shortest time between two messages of one kind.
    """

    def __init__(self, *, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._changed = threading.Condition()
        self._waiting: dict[str, _Message] = {}
        self._sent_at: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def publish(self, kind: str, send: Callable[[], None]) -> None:
        """Have `send` called soon, in the context of the caller, in place of what of this kind waits to be sent."""
        with self._changed:
            self._waiting[kind] = _Message(send=send, context=copy_context())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="photojobs-publishing", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, limit_seconds: float) -> bool:
        """Wait until everything was sent; False where that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, limit_seconds)

    def _run(self) -> None:
        while (message := self._next()) is not None:
            try:
                message.context.run(message.send)
            except Exception as error:  # noqa: BLE001 - Prefect's server may be away; the truth is in SQL.
                logger.info("not shown in Prefect: %s", error)

    def _next(self) -> _Message | None:
        """Wait for the next message that may be sent; None, and the thread ends, where none is left."""
        with self._changed:
            while self._waiting:
                now = time.monotonic()
                due = {kind: self._sent_at.get(kind, -self._interval_seconds) for kind in self._waiting}
                kind = min(due, key=due.__getitem__)
                wait_seconds = due[kind] + self._interval_seconds - now
                if wait_seconds <= 0:
                    recent_since = now - self._interval_seconds
                    self._sent_at = {known: at for known, at in self._sent_at.items() if at > recent_since}
                    self._sent_at[kind] = now
                    return self._waiting.pop(kind)
                self._changed.wait(wait_seconds)
            self._thread = None
            self._changed.notify_all()
            return None
