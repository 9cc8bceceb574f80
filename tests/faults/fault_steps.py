"""Step types for runs in which executors die: they write files, and a trace of the process, action and order."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from task_definitions import TaskDefinition, load_definitions

#: How long each item takes, so that some executors die in the middle of an item.
ITEM_SECONDS = 0.03

DEFINITION = {
    "survivor": {
        "label": "Survivor",
        "scope": "photo_set",
        "steps": [
            {"type": "fault_write", "priority": 95, "chunk_size": 5, "max_attempts": 100, "retry_delay_seconds": 0.05},
            {"type": "fault_survey", "priority": 98, "max_attempts": 100, "retry_delay_seconds": 0.05},
            {"type": "fault_ask", "priority": 60, "chunk_size": 8, "max_attempts": 100, "retry_delay_seconds": 0.05},
        ],
    }
}


def survivor() -> TaskDefinition:
    """Return the definition that the fault tests run."""
    return load_definitions(DEFINITION, builtin=False)["survivor"]


@step("fault_write", unit="items", modifies_files=False)
def fault_write(ctx: StepContext) -> None:
    """Writes a file for each photo."""
    _write_items(ctx, "first")


@step("fault_survey", unit="projects", modifies_files=False)
def fault_survey(ctx: StepContext) -> None:
    """Writes the projects of the task to the trace."""
    for project in ctx.projects():
        with ctx.project(project):
            _leave_file(ctx, "survey", str(project.id), project.project_name)


@step("fault_ask", unit="items", modifies_files=False)
def fault_ask(ctx: StepContext) -> None:
    """Requests a follow-up job for each photo; repetitions request the same follow-up jobs again."""
    for batch in ctx.item_batches():
        ctx.enqueue("fault_follow", photo_ids=[item.photo.id for item in batch], priority=40)
    _write_items(ctx, "second")


@step("fault_follow", unit="items", modifies_files=False)
def fault_follow(ctx: StepContext) -> None:
    """Writes the last file of each photo."""
    _write_items(ctx, "third")


def _write_items(ctx: StepContext, stage: str) -> None:
    for batch in ctx.item_batches(size=3):
        for item in batch:
            threading.Event().wait(ITEM_SECONDS)
            with ctx.item(item):
                _leave_file(ctx, stage, str(item.photo.id), item.name)


def _leave_file(ctx: StepContext, stage: str, name: str, content: str) -> None:
    folder = ctx.library.root / stage
    folder.mkdir(exist_ok=True)
    ctx.checkpoint()
    passed_at = datetime.now(UTC)
    trace = {
        "name": name,
        "job": ctx.job.id,
        "claimed_at": ctx.job.started_at.isoformat(timespec="microseconds") if ctx.job.started_at else "",
        "passed_at": passed_at.isoformat(timespec="microseconds"),
        "pid": os.getpid(),
    }
    append_line(ctx.library.root / "trace.jsonl", json.dumps(trace))
    unfinished = folder / f".{name}.{ctx.claim.token}"
    unfinished.write_text(content)
    unfinished.replace(folder / name)


def append_line(path: Path, line: str) -> None:
    """Append a line in one system call, so that lines of several processes are not mixed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)
