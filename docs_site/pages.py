"""Lists the pages of `docs/` that are written from the code, and the files outside of `docs/` that are pages too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from docs_site.commands_page import commands_page
from docs_site.definitions_page import definitions_page
from docs_site.errors_page import errors_page
from docs_site.events_page import events_page
from docs_site.python_pages import python_page
from docs_site.settings_page import settings_page
from docs_site.step_types_page import step_types_page
from docs_site.tables_page import tables_page

#: The folder of the project.
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

#: The functions that write pages from the code, by the place of the page in `docs/`.
GENERATED: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "reference/commands.md": commands_page,
        "reference/settings.md": settings_page,
        "reference/definitions.md": definitions_page,
        "reference/steps.md": step_types_page,
        "reference/tables.md": tables_page,
        "reference/events.md": events_page,
        "reference/errors.md": errors_page,
        "reference/python/task_definitions.md": partial(python_page, "task_definitions"),
        "reference/python/storage.md": partial(python_page, "storage"),
        "reference/python/flows.md": partial(python_page, "flows"),
    }
)
#: Files outside of `docs/` that are pages of the site too.
ADOPTED: Mapping[str, str] = MappingProxyType(
    {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "report-security.md"}
)
#: Files outside of `docs/` that the site replaces by pages of its own.
REPLACED: Mapping[str, str] = MappingProxyType({"README.md": "index.md"})


def written_page(uri: str) -> str:
    """Return the text of the file of a page in `GENERATED`."""
    return f"<!-- Written by `python -m docs_site`. Change the code, not this page. -->\n\n{GENERATED[uri]()}"
