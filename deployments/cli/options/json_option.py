"""The option `--json` of every command with output."""

from typing import Annotated

from cyclopts import Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Print JSON.")]
