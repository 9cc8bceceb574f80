#!/usr/bin/env bash
# Times that pydantic writes do not sort by time: a whole second comes after the fractions of a second that follow it.
#
# Guess: ISO 8601 texts of one zone sort as their times do. So a column of texts in SQLite, filled by programs that all write UTC with
#     a Z, can be compared, sorted and indexed.
# Behaviour: pydantic leaves out the fraction if it is zero, and otherwise writes six digits. "12:00:00Z" is above "12:00:00.500000Z", as
#     a dot is below a Z. So a job that is due at a whole second is not due for the rest of this second, `min()` and `ORDER BY` return
#     the wrong row, and pages by key leave rows out. A time of now has a whole second once in a million, but one that a person or
#     a schedule gave nearly always. With `+00:00`, as `isoformat` writes, plus is below the dot, and all is well; but
#     not beside texts with Z. Nor does a text of three digits, as JavaScript writes, sort with one of six.
# Versions: pydantic 2.14.4; SQLite 3.40 and later.
# Date: 2026-11-29.
# Source: RFC 3339, 5.1, which promises the order only for the same number of digits; measured.
# Covered by: storage/database/clock.py, `format_timestamp`, and the triggers of
#     storage/upkeep/migrations/versions/0005_moments_of_other_programs.py; tests/storage/database/test_foreign_moments.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pydantic==2.14.4
"$folder/venv/bin/python" - <<'PYTHON'
import sqlite3
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel


class Job(BaseModel):
    run_after: datetime


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MOMENTS = [NOON + timedelta(milliseconds=number * 250) for number in range(6)]
WRITERS = {
    "pydantic": lambda moment: Job(run_after=moment).model_dump(mode="json")["run_after"],
    "isoformat": datetime.isoformat,
    "always three digits": lambda moment: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
}


def seen(name):
    """Whether the texts sort by time, and whether a job that is due at noon is found 0.25 and 1 seconds later."""
    write = WRITERS[name]
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, run_after TEXT)")
    connection.executemany("INSERT INTO jobs (run_after) VALUES (?)", [(write(moment),) for moment in MOMENTS])
    order = [row[0] for row in connection.execute("SELECT id FROM jobs ORDER BY run_after")]
    due = [
        connection.execute("SELECT count(*) FROM jobs WHERE id = 1 AND run_after <= ?", (write(now),)).fetchone()[0] == 1
        for now in (MOMENTS[1], MOMENTS[4])
    ]
    print(f"{name}: {write(MOMENTS[0])}, {write(MOMENTS[1])}: order {order}, due after 0.25 s: {due[0]}, after 1 s: {due[1]}")
    return order, due


assert seen("pydantic") == ([2, 3, 4, 1, 6, 5], [False, True])
assert seen("isoformat") == ([1, 2, 3, 4, 5, 6], [True, True])
assert seen("always three digits") == ([1, 2, 3, 4, 5, 6], [True, True])
three, six = WRITERS["always three digits"](MOMENTS[1]), WRITERS["pydantic"](MOMENTS[1] + timedelta(microseconds=1))
print(f"{six} is a microsecond after {three}, and sorts {'after' if six > three else 'before'} it")
assert six < three
PYTHON
