"""Step types for programs under pressure: they wait, as real work does, and write a line for each photo."""

from __future__ import annotations

import json
import threading

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from tests.faults.fault_steps import append_line

#: The package by which processes that tests start find these step types; see `tests.scale.photo_set.install_step`.
MODULE = "tests.pressure.steps"

#: The name of the file with a line for each processed photo.
TRACE = "trace.jsonl"

#: How long `pressure_items` takes for an item.
ITEM_SECONDS = 0.05

DEFINITION = """
pressure:
  label: Pressure
  scope: photo_set
  steps:
    - {type: pressure_items, priority: 95, chunk_size: 5, max_attempts: 100, retry_delay_seconds: 0.1}
    - {type: pressure_items, priority: 60, chunk_size: 4, max_attempts: 100, retry_delay_seconds: 0.1}
"""


@step("pressure_wait", unit="library", modifies_files=False)
def pressure_wait(ctx: StepContext) -> None:
    """Waits for as many seconds as its payload says."""
    threading.Event().wait(float(ctx.payload.get("seconds", 0)))


@step("pressure_items", unit="items", modifies_files=False)
def pressure_items(ctx: StepContext) -> None:
    """Writes a line for each photo."""
    for batch in ctx.item_batches(size=3):
        for item in batch:
            threading.Event().wait(ITEM_SECONDS)
            with ctx.item(item):
                ctx.checkpoint()
                line = {"task": ctx.job.task_id, "step": ctx.job.step_index, "photo": item.photo.id}
                append_line(ctx.library.root / TRACE, json.dumps(line))
