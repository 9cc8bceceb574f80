"""What a job did, in numbers and first names: kept in `jobs.result_json` and shown as an artifact."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: Names kept for each kind of change; the counts go on.
MAX_EXAMPLES = 10

#: Projects kept with counts of their own; the totals go on.
MAX_PROJECTS = 200


@dataclass(slots=True)
class Report:
    """Counts what a handler did, and remembers the first names of each kind.

    Names are plain past participles: `removed`, `renamed`, `made`, `kept`, `skipped`, `failed`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    projects: dict[str, Counter[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    _project: str | None = None

    def count(self, name: str, number: int = 1, *, example: str | None = None) -> None:
        """Count `number` more of what `name` says, with the name of one of them."""
        if not number:
            return
        self.counts[name] += number
        if example is not None:
            known = self.examples.setdefault(name, [])
            if len(known) < MAX_EXAMPLES:
                known.append(example)
        if self._project is not None and (self._project in self.projects or len(self.projects) < MAX_PROJECTS):
            self.projects.setdefault(self._project, Counter())[name] += number

    def enter_project(self, name: str | None) -> None:
        """Count what follows for that project too; None leaves it."""
        self._project = name

    def fail(self, name: str, reason: str) -> None:
        """Note that a project or an item failed, and why."""
        self.count("failed", example=f"{name}: {reason}")
        if len(self.errors) < MAX_PROJECTS:
            self.errors[name] = reason

    def to_json(self) -> dict[str, Any]:
        """A JSON object: `counts`, `examples`, `projects` (counts of each) and `errors`; empty parts are left out."""
        parts: dict[str, Any] = {
            "counts": dict(self.counts),
            "examples": self.examples,
            "projects": {name: dict(counts) for name, counts in self.projects.items()},
            "errors": self.errors,
        }
        return {name: part for name, part in parts.items() if part}
