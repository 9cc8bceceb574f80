"""Writes a plan as Markdown, for an artifact or a file: the planned changes and failures of each step, by project."""

from flows.planning.changes import ACTIONS
from flows.planning.plan import Plan, PlannedStep
from flows.telemetry.step_markdown import cell, row

#: Largest number of projects that are shown for a step. The counts of the step include all projects.
SHOWN_PROJECTS = 50


def plan_markdown(plan: Plan) -> str:
    """Return the plan as Markdown."""
    lines = [f"# {plan.label}: what it would do", "", f"{plan.message}. Nothing has been changed."]
    for step in plan.steps:
        lines += _step(step)
    return "\n".join(lines) + "\n"


def _step(step: PlannedStep) -> list[str]:
    lines = ["", f"## {step.index + 1}. {step.type}", ""]
    if step.status == "skipped":
        return [*lines, "The step would not run."]
    lines.append(f"{step.tally.in_words() or 'Nothing to do'}.")
    if step.tally.freed_bytes:
        lines[-1] = f"{lines[-1]} {step.tally.freed_bytes:,} bytes to free."
    if step.projects:
        lines += ["", row(["project", "changes", "examples"]), row(["---", "---", "---"])]
        for name, tally in list(step.projects.items())[:SHOWN_PROJECTS]:
            firsts = [tally.examples[action][0] for action in ACTIONS if tally.examples.get(action)][:3]
            lines.append(row([cell(name), tally.in_words(), "; ".join(cell(first) for first in firsts)]))
    if step.errors:
        lines += ["", "Would fail:", "", *(f"- {cell(error)}" for error in step.errors)]
    return lines
