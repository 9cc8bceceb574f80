"""`python -m tests.pressure`: PostgreSQL under faults and pressure, and a soak; what it does to the work."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.pressure.cells import CELLS, run_cell
from tests.pressure.soak import soak


def main() -> int:
    """Run it, and say what it showed; the exit code is 1 if something was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.pressure", description=__doc__)
    parser.add_argument("--cell", choices=CELLS, action="append", help="by default all")
    parser.add_argument("--seconds", type=float, default=60, help="of each measurement of a cell (default 60)")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="in place of the cells: `up` and two workers")
    parser.add_argument("--tasks", type=float, default=20, help="tasks a minute of a soak (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults of a soak (default 1)")
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


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
