"""Writes structured logs: one JSON object on each line, with the task, job and tenant that the line is about.

They are written if the setting `log_format` is `json`. `deployments.cli.output.logs` decides which lines a command
shows otherwise.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from flows.telemetry.events import Event, Events
from flows.telemetry.log_fields import FIELDS, about_job_at_work
from storage.database.clock import format_timestamp
from storage.settings import Settings

logger = logging.getLogger("photojobs.log")

#: Events that are too frequent for log lines. The log line at the end of their job has the totals.
_UNLOGGED_EVENTS = frozenset({"photojobs.items.recorded"})


class JsonLines(logging.Formatter):
    """Formats a log record as one JSON object on one line. A traceback becomes a text field."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the log line of a record, without a line feed."""
        line: dict[str, Any] = {
            "at": format_timestamp(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = about_job_at_work()
        for field in FIELDS:
            line[field] = getattr(record, field, known.get(field))
        line["process_id"] = record.process
        event = getattr(record, "event", None)
        if isinstance(event, dict):
            line["event"] = event
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        # The line is ASCII, because some readers also end a line at other characters than a line feed.
        return json.dumps(line, default=str)


class _CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which a progress bar may replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(JsonLines())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def structure_logs(settings: Settings, *, handler: logging.Handler | None = None) -> None:
    """Write the logs of this process as JSON lines if the setting `log_format` is `json`.

    Call this function before Prefect is imported. Prefect then also writes its own log lines as JSON, in its own form.

    Args:
        settings: the settings of this process.
        handler: the handler for the lines; by default, they go to stderr.
    """
    if settings.log_format != "json":
        return
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER", "json")
    ours = logging.getLogger("photojobs")
    if any(isinstance(known.formatter, JsonLines) for known in ours.handlers):
        return
    if handler is None:
        handler = _CurrentStderr()
    handler.setFormatter(JsonLines())
    ours.handlers = [handler]
    ours.propagate = False
    ours.setLevel(logging.INFO)


def log_events(events: Events, settings: Settings) -> None:
    """Log a line for each start and each end of a task or job if logs are structured."""
    if settings.log_format == "json":
        events.listen(_log_event)


def _log_event(event: Event) -> None:
    if event.name in _UNLOGGED_EVENTS:
        return
    kind, number = event.subject.removeprefix("photojobs.").split(".", 1)
    fields: dict[str, Any] = {
        "tenant_id": event.related.get("tenant"),
        "task_id": number if kind == "task" else event.related.get("task"),
        "event": {"name": event.name, **event.payload},
    }
    if kind == "job":
        fields |= {"job_id": int(number), "job_type": event.label}
    state = event.name.rsplit(".", 1)[-1]
    level = logging.WARNING if state in ("failed", "retrying") else logging.INFO
    logger.log(level, "%s %s (%s) %s", kind, number, event.label, state, extra=fields)
