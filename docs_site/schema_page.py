"""The page with the JSON Schema of definition files."""

from __future__ import annotations

from task_definitions.json_schema import render

_INTRODUCTION = """# Schema of definition files

`photojobs definitions schema --output definitions.schema.json` writes this JSON Schema, with the step types of the
installed packages; [as a file](definitions.schema.json) it has the built-in ones. An editor that knows it completes
keys and step types, and marks what is not allowed. With the YAML language server, the first line of a definition file
says where it is:

```yaml
# yaml-language-server: $schema=./definitions.schema.json
nightly_check:
  label: Nightly Check
  scope: global
  steps:
    - {type: manifest_check, priority: 95}
```

What a schema cannot say, that names are unique and that a cron text fires some day, `photojobs definitions lint` alone
checks.
"""


def schema_page() -> str:
    """How to use the schema, and the schema."""
    return f"{_INTRODUCTION}\n```json\n{render()}```\n"
