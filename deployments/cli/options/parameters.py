"""Parameters that several commands have, with their help texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from cyclopts import CoercionError, Parameter, Token
from cyclopts.validators import Number

from deployments.cli.options.errors import BadInput
from task_definitions.plain import MAX_INTEGER
from task_definitions.wording import listed, shown

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Json = Annotated[Flag, Parameter(name="--json", help="Print JSON.")]

#: The type of an option that may be given several times.
Several = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]


def _whole_number(_type: object, tokens: Sequence[Token]) -> int:
    digits = tokens[0].value.lstrip("+-0")
    if digits.isdecimal() and (len(digits) > len(str(MAX_INTEGER)) or int(digits) > MAX_INTEGER):
        raise CoercionError(
            msg=f"{shown(tokens[0].value)} is out of range. Give a whole number from -{MAX_INTEGER} to {MAX_INTEGER}.",
            token=tokens[0],
        )
    # Cyclopts itself would round a fraction: the id 2.6 would become 3, the id of another photo or job.
    try:
        return int(tokens[0].value)
    except ValueError:
        raise CoercionError(token=tokens[0], target_type=int) from None


WholeNumber = Annotated[int, Parameter(converter=_whole_number)]
Count = Annotated[WholeNumber, Parameter(validator=Number(gte=1))]
Offset = Annotated[WholeNumber, Parameter(validator=Number(gte=0))]

DefinitionName = Annotated[str, Parameter(help="The definition; `photojobs definitions list` shows all.")]

JobId = Annotated[WholeNumber, Parameter(help="The job's id, as `photojobs jobs list` shows it.")]
JobTenant = Annotated[str | None, Parameter(help="The tenant that the job must belong to; by default any tenant.")]

TaskId = Annotated[str, Parameter(help="The task's id, or the first characters of its id.")]
TaskTenant = Annotated[str | None, Parameter(help="The tenant that the task must belong to; by default any tenant.")]


def refuse_beside(option: str, others: Mapping[str, object]) -> None:
    """Refuse options that cannot be used beside `option`, which is given.

    `others` has the value of each of these options by its name; a value that is false was not given.

    Raises:
        BadInput: one of these options is given.
    """
    given = [name for name, value in others.items() if value]
    if given:
        leave_out = f"Leave out either {option}, or {listed(given, last='and')}."
        raise BadInput(f"{option} cannot be used with {listed(given)}. {leave_out}")
