"""Projects as people choose them from a list: `Wedding 2024 (#12)`."""

from __future__ import annotations

import re
from typing import Any

from storage.records import Project

_LABEL = re.compile(r".*\(#(\d{1,18})\)", re.DOTALL)


def project_label(project: Project) -> str:
    """The name with the id, since names need not be unique."""
    return f"{project.project_name} (#{project.id})"


def id_in_label(value: Any) -> Any:
    """The id in a label or in digits; anything else as it is."""
    if not isinstance(value, str):
        return value
    if found := _LABEL.fullmatch(value.strip()):
        return int(found.group(1))
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else value
