"""`python -m tests.mutation PART`: changes one operator, number or branch of a part at a time, and runs its tests.

Works on a copy of the project. A change that no test notices is printed: it needs a test, or a reason in the proofs.
Changes of what is not evaluated are left out: annotations, and the mark of keyword-only parameters.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).parents[2]
#: The modules of each part, and the tests that must notice a change of them, the fastest first.
PARTS = {
    "claims": (
        ["storage/queue/claims.py"],
        [
            "tests/storage/queue/test_claims.py",
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
        ],
    ),
    "transfer": (
        ["storage/library/transfer.py"],
        [
            "tests/storage/library/test_library_transfer.py",
            "tests/storage/library/test_library_transfer_limits.py",
            "tests/storage/library/test_library_exclusive_rename.py",
        ],
    ),
    "exclusive_rename": (
        ["storage/library/exclusive_rename.py"],
        ["tests/storage/library/test_library_exclusive_rename.py", "tests/storage/library/test_library_transfer.py"],
    ),
    "moves": (
        ["flows/steps/moving/image_move.py", "storage/photos/photo_moves.py"],
        ["tests/flows/steps/test_image_move.py", "tests/flows/steps/test_duplicate_resolution.py"],
    ),
    "undoing": (["flows/undoing"], ["tests/flows/undoing", "tests/flows/steps/test_strikes_at_every_change.py"]),
    "schedules": (
        ["deployments/deploying/scheduled_definitions.py"],
        ["tests/deployments/deploying/test_schedules.py"],
    ),
}
#: A change may lead to a loop without end; a test run that takes this much longer than the first one noticed it.
PATIENCE = 3.0


def main() -> int:
    """Run the mutants, and say which survived; the exit code is 1 if fewer than the wanted share were noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--sample", type=int, help="try so many, chosen with a fixed seed; by default all")
    parser.add_argument("--wanted", type=float, default=0.9, help="the share of mutants to be noticed (default 0.9)")
    options = parser.parse_args()
    modules, tests = PARTS[options.part]
    with tempfile.TemporaryDirectory(prefix="pj-") as name:
        folder = Path(name)
        _copy_project(folder / "project")
        # The processes that tests start take the copy, too.
        os.environ["PYTHONPATH"] = str(folder / "project")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *tests]
        seconds = _time_of(command, folder / "project")
        config = folder / "config.toml"
        # JSON is TOML, too, for lists and texts.
        config.write_text(
            f"[cosmic-ray]\nmodule-path = {json.dumps(modules)}\ntimeout = {PATIENCE * seconds + 10:.0f}\n"
            f"excluded-modules = []\ntest-command = {json.dumps(' '.join(command))}\n"
            '[cosmic-ray.distributor]\nname = "local"\n'
        )
        session = folder / "session.sqlite"
        _cosmic_ray(folder / "project", "init", config, session)
        with use_db(str(session), mode=WorkDB.Mode.open) as database:
            _leave_out_all_but(options.sample, database, folder / "project")
        _cosmic_ray(folder / "project", "exec", config, session)
        with use_db(str(session), mode=WorkDB.Mode.open) as database:
            return _report(options.part, database, wanted=options.wanted)


def _copy_project(target: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def _time_of(command: list[str], project: Path) -> float:
    began = time.monotonic()
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the tests fail without any change:\n{done.stdout[-4000:]}")
    return time.monotonic() - began


def _cosmic_ray(project: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "cosmic_ray.cli", *map(str, arguments)]
    subprocess.run(command, cwd=project, check=True)


def _leave_out_all_but(sample: int | None, database: WorkDB, project: Path) -> None:
    idle = {module: _idle_places(project / module) for module in {str(_place(item)[0]) for item in database.work_items}}
    items = [item for item in database.work_items if not _is_idle(_place(item), idle)]
    print(f"{len(items)} mutants", flush=True)  # noqa: T201
    chosen = random.Random(16).sample(items, min(sample or len(items), len(items)))
    kept = {item.job_id for item in chosen}
    for item in list(database.work_items):
        if item.job_id not in kept:
            database.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))


def _place(item: WorkItem) -> tuple[Path, tuple[int, int]]:
    (mutation,) = item.mutations
    return mutation.module_path, mutation.start_pos


def _is_idle(
    place: tuple[Path, tuple[int, int]], idle: dict[str, list[tuple[tuple[int, int], tuple[int, int]]]]
) -> bool:
    module, position = place
    return any(first <= position < last for first, last in idle[str(module)])


def _idle_places(module: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where the code of a module does nothing when it runs."""
    places = []
    for node in ast.walk(ast.parse(module.read_text())):
        annotations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        places += [
            ((each.lineno, each.col_offset), (each.end_lineno, each.end_col_offset)) for each in annotations if each
        ]
        if isinstance(node, ast.FunctionDef) and node.args.kwonlyargs:
            first = node.args.kwonlyargs[0]
            places.append(((node.lineno, node.col_offset), (first.lineno, first.col_offset)))
    return places


def _report(part: str, database: WorkDB, *, wanted: float) -> int:
    counts: Counter[str] = Counter()
    for _, result in database.results:
        if result.worker_outcome == WorkerOutcome.SKIPPED:
            continue
        outcome = str(getattr(result.test_outcome, "value", result.worker_outcome))
        counts[outcome] += 1
        if outcome == "survived":
            print(result.diff)  # noqa: T201
    tried = counts.total()
    share = 1 - counts["survived"] / tried if tried else 0.0
    print(f"{part}: {tried} mutants tried, {counts['survived']} survived, {share:.0%} noticed")  # noqa: T201
    return 0 if share >= wanted else 1


if __name__ == "__main__":
    sys.exit(main())
