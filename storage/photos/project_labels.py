"""Labels of projects, such as `Wedding 2024 (#12)`, for lists in forms."""

import re

from storage.records import Project

_LABEL = re.compile(r"(.*?)\s*\(#(\d{1,18})\)", re.DOTALL)


def project_label(project: Project) -> str:
    """Return a label with the project's name and id, because names need not be unique."""
    return f"{project.project_name} (#{project.id})"


def read_reference(reference: int | str) -> tuple[str | None, int | None]:
    """Return the name and the id in a reference to a project; None for the part that the reference lacks.

    A label such as `Alps (#12)` has both. An integer or a text of digits is an id. Any other text is a name.
    """
    if not isinstance(reference, str):
        return None, reference
    text = reference.strip()
    if found := _LABEL.fullmatch(text):
        return found.group(1), int(found.group(2))
    return (None, int(text)) if text.isascii() and text.isdigit() and len(text) <= 18 else (reference, None)
