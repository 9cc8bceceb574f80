"""Prints the summary of a task, for people and as JSON.

`storage.reports.task_summary` decides what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deployments.cli.output.loudness import is_quiet
from deployments.cli.output.terminal import duration, print_json, print_table, say
from storage.reports.task_summary import StepSummary, TaskSummary
from task_definitions.wording import quantity, tally

if TYPE_CHECKING:
    from flows.planning.refusals import Refusal

#: How many reasons of failed jobs are shown for a step.
REASONS = 3


def print_result(summary: TaskSummary, *, json: bool, refusals: Sequence[Refusal] | None = None) -> None:
    """Print the summary of a task that this command has run: as JSON, or for people if `--quiet` is not given."""
    if json:
        print_summary_json(summary, refusals=refusals)
    elif not is_quiet():
        print_summary(summary)


def print_summary(summary: TaskSummary) -> None:
    """Print the steps of a task, why jobs failed, and how the task ended."""
    print_table(
        ("step", "jobs", "items", "failed", "time", "did"),
        [
            (
                step.type,
                step.total_jobs,
                step.total_items or None,
                _failed(step),
                duration(step.seconds),
                tally(step.counts),
            )
            for step in summary.steps
        ],
        numbers=("jobs", "items", "failed", "time"),
    )
    for step in summary.steps:
        for reason in step.errors[:REASONS]:
            say(f"{step.type}: {reason.splitlines()[0]}")
    say(f"task {summary.task.id} {summary.task.status}: {summary.message}")


def print_summary_json(summary: TaskSummary, *, refusals: Sequence[Refusal] | None = None) -> None:
    """Print the summary as JSON, with the refusals if a saved plan was run."""
    task = summary.task
    print_json(
        {
            "task_id": task.id,
            "type": task.type,
            "tenant_id": task.tenant_id,
            "project_id": task.project_id,
            "status": task.status,
            "message": summary.message,
            "jobs": summary.jobs,
            "items": summary.items,
            "steps": summary.steps,
            **({} if refusals is None else {"refused": list(refusals)}),
        }
    )


def _failed(step: StepSummary) -> str:
    items, jobs = step.items.get("failed", 0), step.jobs.get("failed", 0)
    if items:
        return str(items)
    return quantity(jobs, "job") if jobs else "0"
