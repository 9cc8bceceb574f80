"""Parameters that several commands have, with their help texts."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Json = Annotated[Flag, Parameter(name="--json", help="Print JSON.")]

#: Values of an option that may be given several times.
Several = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]

Count = Annotated[int, Parameter(validator=Number(gte=1))]
Offset = Annotated[int, Parameter(validator=Number(gte=0))]

DefinitionName = Annotated[str, Parameter(help="The definition; `photojobs definitions list` shows all.")]

JobId = Annotated[int, Parameter(help="The job's id, as `photojobs jobs list` shows it.")]
JobTenant = Annotated[str | None, Parameter(help="The tenant that the job must belong to; by default any tenant.")]

TaskId = Annotated[str, Parameter(help="The task's id.")]
TaskTenant = Annotated[str | None, Parameter(help="The tenant that the task must belong to; by default any tenant.")]
