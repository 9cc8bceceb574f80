"""Checks the cron texts of schedules. Prefect computes the times at which a schedule runs.

An accepted text means the same to Prefect and to plain cron. A text is refused if Prefect would run it at other times
than plain cron.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from task_definitions.wording import quantity

#: Shorthands that replace a whole cron text.
CRON_SHORTHANDS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
#: The form of a cron text, for error messages and the JSON Schema.
CRON_FORM = 'five fields "minute hour day-of-month month day-of-week", as in "0 3 * * *", or a shorthand like "@daily"'
#: Longer texts are refused without parsing; a list of every minute of an hour has 169 characters.
MAX_CRON_CHARACTERS = 400


@dataclass(frozen=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: Mapping[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        number = self.names.get(text)
        if number is None:
            if not re.fullmatch("[0-9]{1,4}", text):
                names = f", or a name such as {next(iter(self.names))}" if self.names else ""
                allowed = f"write a number from {self.lowest} to {self.highest}{names}"
                raise ValueError(f'the {self.name} "{text}" is not valid; {allowed}')
            number = int(text)
        if not self.lowest <= number <= self.highest:
            raise ValueError(f"the {self.name} {text} is not between {self.lowest} and {self.highest}")
        return number


_DAY_OF_MONTH = _Field("day of month", 1, 31)
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = _Field("month", 1, 12, {name: number for number, name in enumerate(_MONTH_NAMES, start=1)})
_DAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_OF_WEEK = _Field("day of week", 0, 7, {name: number for number, name in enumerate(_DAY_NAMES)})
_LONGEST_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_TERM = re.compile(r"(?:\*|(?P<first>[0-9a-z]+)(?:-(?P<last>[0-9a-z]+))?)(?:/(?P<step>[0-9]+))?")


def check_cron(text: str) -> str:
    """Return `text` if it is valid: it matches at least one time, and means the same to Prefect and to plain cron.

    A field is `*`, a number, a range `1-5`, any of these with a step as in `*/15`, or a list of such terms; months
    and days of the week may be named (`jan`, `mon`), and 0 and 7 are both Sunday.

    Raises:
        ValueError: `text` is refused; the message gives the reason.
    """
    if len(text) > MAX_CRON_CHARACTERS:
        raise ValueError(f"it is longer than {MAX_CRON_CHARACTERS} characters")
    if text in CRON_SHORTHANDS:
        return text
    parts = text.lower().split()
    if len(parts) != 5:
        raise ValueError(f"it has {quantity(len(parts), 'field')} instead of 5")
    _values(parts[0], _Field("minute", 0, 59))
    _values(parts[1], _Field("hour", 0, 23))
    days = _values(parts[2], _DAY_OF_MONTH)
    months = _values(parts[3], _MONTH)
    weekdays = _values(parts[4], _DAY_OF_WEEK)
    if parts[2] != "*" != parts[4]:
        _check_both_days(parts[2], parts[4], days, weekdays)
    # This check is also needed if a day of the week is given: plain cron would run on that day of the week, but Prefect
    # would find no time at which to run.
    if min(days) > max(_LONGEST_MONTH_DAYS[month - 1] for month in months):
        raise ValueError(f"none of the given months has a day {min(days)}")
    if {2, 3} <= months and (left_out := _left_out_in_march(days)):
        raise ValueError(
            f"with these days of the month, Prefect would not run on {left_out} March; end them at 28, as in 1-28/5, "
            "or add 29, 30 and 31"
        )
    return text


def _left_out_in_march(days: set[int]) -> int | None:
    """Return the first of the given days of the month on which Prefect does not run in March; None if it runs on all.

    If a text names day 31, for example, Prefect counts on from February to "31 February", which it reads as 3 March. So
    Prefect skips 1 and 2 March.
    """
    for february in (28, 29):
        beyond = min((day for day in days if day > february), default=february)
        missed = [day for day in days if day < beyond - february]
        if missed and february not in days:
            return min(missed)
    return None


def _check_both_days(day_part: str, weekday_part: str, days: set[int], weekdays: set[int]) -> None:
    """Check that a text with a day of the month and a day of the week means the same to Prefect and to plain cron.

    If both fields restrict the days, Prefect and plain cron run on each day that matches one of the two. If a field
    restricts nothing, the day must match the other field. In plain cron, a field restricts nothing if it begins with
    `*`; in Prefect, if it names every day.
    """
    for of, part, is_all in (
        (_DAY_OF_MONTH, day_part, len(days) == 31),
        (_DAY_OF_WEEK, weekday_part, len({day % 7 for day in weekdays}) == 7),
    ):
        if is_all:
            raise ValueError(f'the {of.name} "{part}" means every day; write "*"')
        if "*" in part:
            raise ValueError(
                f'the {of.name} "{part}" contains "*", and the other day field is restricted, too. cron would run on '
                "days that match both fields, Prefect on days that match one of them. Write the days as numbers; then "
                "both run on days that match one of the fields. Or restrict only one of the two fields"
            )


def _values(part: str, of: _Field) -> set[int]:
    values: set[int] = set()
    for term in part.split(","):
        match = _TERM.fullmatch(term)
        if not match:
            raise ValueError(f'the {of.name} "{term}" is not valid; write "*", a number or a range, as in "1-5"')
        first, last, step = match["first"], match["last"], match["step"]
        if term == "*" != part:
            raise ValueError(f'the {of.name} "{part}" is a list with "*", which means every value; write only "*"')
        start = of.lowest if first is None else of.number(first)
        # "5/15" means 5, 20, 35 and so on; "5" means only 5.
        end = of.number(last) if last else start if first and not step else of.highest
        if first and step and not last and (start == of.highest or of is _DAY_OF_WEEK):
            # Prefect reads "59/9" as "*/9". In Prefect, days of the week end at 6, in plain cron at 7.
            raise ValueError(f'Prefect and cron read the {of.name} "{term}" differently; write a range, as in "1-5/2"')
        if last and end == start:
            # Prefect reads a range of one value as all values: "20-20" means every hour.
            raise ValueError(f'the {of.name} range "{term}" is one value; write "{first}"')
        if end < start:
            raise ValueError(f'the {of.name} range "{term}" ends before it begins; write two ranges')
        if step is not None and not 1 <= int(step[:4]) <= of.highest:
            raise ValueError(f"the {of.name} step {step[:4]} is not between 1 and {of.highest}")
        values.update(range(start, end + 1, int(step[:4]) if step else 1))
    return values
