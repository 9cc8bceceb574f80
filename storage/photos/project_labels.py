"""Projects as people choose them from a list: `Wedding 2024 (#12)`."""

from __future__ import annotations

import re

from storage.records import Project

_LABEL = re.compile(r"(.*?)\s*\(#(\d{1,18})\)", re.DOTALL)


def project_label(project: Project) -> str:
    """The name with the id, since names need not be unique."""
    return f"{project.project_name} (#{project.id})"


def read_reference(reference: int | str) -> tuple[str | None, int | None]:
    """The name and the id in a label; the id alone of an id or of digits; the name alone of any other text."""
    if not isinstance(reference, str):
        return None, reference
    text = reference.strip()
    if found := _LABEL.fullmatch(text):
        return found.group(1), int(found.group(2))
    return (None, int(text)) if text.isascii() and text.isdigit() and len(text) <= 18 else (reference, None)
