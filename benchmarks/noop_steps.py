"""Step types that do nothing or almost nothing, and a definition with one such step."""

from __future__ import annotations

import time

from flows.handlers.step import step
from flows.handlers.step_context import StepContext
from task_definitions import TaskDefinition, load_definitions


def register_noop_steps() -> None:
    """Register `noop`, `wait` (sleeps for 5 ms) and `go_over_items`."""

    @step("noop", unit="items", modifies_files=False)
    def noop(ctx: StepContext) -> None:
        """Do nothing."""

    @step("wait", unit="items", modifies_files=False)
    def wait(ctx: StepContext) -> None:
        """Wait for 5 milliseconds."""
        time.sleep(0.005)

    @step("go_over_items", unit="items", modifies_files=False)
    def go_over_items(ctx: StepContext) -> None:
        """Mark every item as done."""
        for batch in ctx.item_batches():
            for item in batch:
                with ctx.item(item):
                    pass


def noop_definition(type: str = "noop", *, chunk_size: int = 2_000) -> TaskDefinition:
    """Return a definition with one step of this type."""
    document = {
        "bench": {
            "label": "Bench",
            "scope": "photo_set",
            "steps": [{"type": type, "priority": 95, "chunk_size": chunk_size}],
        }
    }
    return load_definitions(document, builtin=False)["bench"]
