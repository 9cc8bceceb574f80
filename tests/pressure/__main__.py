"""`python -m tests.pressure`: measures workers under faults and load of PostgreSQL, or runs a soak test."""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.pressure.cells import CELLS, run_cell
from tests.pressure.soak import soak

_say = partial(print, flush=True)


def main() -> int:
    """Run the cells or the soak test, and print the results; the exit code is 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.pressure", description=__doc__)
    parser.add_argument(
        "--cell", choices=CELLS, action="append", help="a cell to run; may be given several times (default: all cells)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="the length of each measurement of a cell (default 60)"
    )
    parser.add_argument(
        "--soak",
        type=float,
        metavar="MINUTES",
        help="run a soak test of `up` and two workers in place of the cells, for this long",
    )
    parser.add_argument("--tasks", type=float, default=20, help="tasks per minute in a soak test (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the faults in a soak test (default 1)")
    options = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pj-", ignore_cleanup_errors=True) as name:
        if options.soak is not None:
            found = soak(Path(name), minutes=options.soak, tasks_per_minute=options.tasks, seed=options.seed, say=_say)
            _say(str(found))
            problems += found.problems
        else:
            for number, cell in enumerate(options.cell or CELLS):
                folder = Path(name) / str(number)
                folder.mkdir()
                passage = run_cell(CELLS[cell], folder, seconds=options.seconds)
                _say(str(passage))
                problems += passage.problems
    _say("everything was as it must be" if not problems else "it was NOT as it must be")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
