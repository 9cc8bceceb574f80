"""Writes the page of settings from `storage.settings.Settings`."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

from docs_site.markdown import code, table
from storage.settings import SETTINGS_FILE, Settings

_INTRODUCTION = f"""# Settings

Each setting is read from the environment, else from the file `{SETTINGS_FILE}` in the working folder (or the file
that `PHOTOJOBS_CONFIG` names). Otherwise it has its default. An unknown name or an impossible value stops every
command, with one line that names the file or variable with the fault. Durations are in seconds, sizes in pixels or
bytes as the name says.

```toml
# photojobs.toml
database_url = "sqlite:////srv/photos/photojobs.db"
library_root = "/srv/photos/library"
trash_ttl_seconds = 604800  # a week

[schedules]
maintenance_global = "30 3 * * *"
```

From the environment, lists and mappings are JSON: `PHOTOJOBS_SCHEDULED_TENANTS='["anna", "ben"]'`.
"""
_LIMITS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


def settings_page() -> str:
    """Return the page with every setting, its variable, default and limits."""
    rows = [
        (
            f"{code(name)}<br>{code(f'PHOTOJOBS_{name.upper()}')}",
            _default(name, field),
            _allowed(field),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join((_INTRODUCTION, table(("setting", "default", "allowed", "what it is"), rows), ""))


#: Descriptions of defaults that depend on the machine.
_OF_THE_MACHINE = {"concurrency": "the available cores", "max_flow_runs": "the available cores, at least 8"}


def _default(name: str, field: Any) -> str:
    if field.default_factory is not None:
        return _OF_THE_MACHINE[name]
    value = field.get_default()
    if value is None:
        return "none"
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        return code(", ".join(value))
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(f"{value:g}" if isinstance(value, float) else str(value)) if value != {} else "none"


def _allowed(field: Any) -> str:
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return " or ".join(code(choice) for choice in get_args(annotation))
    limits = [
        f"{words} {getattr(constraint, name)}"
        for constraint in field.metadata
        for name, words in _LIMITS.items()
        if hasattr(constraint, name)
    ]
    kind = re.sub(r"\w+\.", "", str(getattr(annotation, "__name__", annotation)))
    named = {"SecretStr": "a URL", "Path": "a path", "Path | None": "a path", "bool": "`true` or `false`"}
    named |= {"str | None": "text", "dict": "a mapping", "tuple": "a list", "dict[str, str]": "a mapping"}
    named |= {"tuple[str, ...]": "a list", "int": "a whole number", "float": "a number"}
    return ", ".join([named.get(kind, kind), *limits])
