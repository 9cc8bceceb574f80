"""`python -m tests.scale`: runs a photo set of 1,000,000 items in a deployment of `photojobs up`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from storage import Database, Settings
from tests.prefect_api import PrefectApi
from tests.scale.photo_set import DEFINITION, add_photos, chunks_of, install_step, pass_photo_set

#: How much the memory of a process may grow after a fifth of the jobs.
MAX_GROWTH = 1.25

_say = partial(print, flush=True)


def main() -> int:
    """Run the photo set, and print the results; the exit code is 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000, help="the number of photos (default 1,000,000)")
    count = parser.parse_args().items
    with tempfile.TemporaryDirectory(prefix="pj-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _prepare(folder)
        from deployments.serving.up import up

        database = Database(folder / "photojobs.db")
        database.migrate()
        add_photos(database, count)
        _say(f"{count:,} photos are there")
        with (
            up(Settings.load(), home=folder / "up", port=None) as running,
            PrefectApi(running.api_url, timeout=120) as api,
        ):
            passage = pass_photo_set(api, database, folder / "up" / "runs", look=_say)
        database.close()
    _say(str(passage))
    is_right = (passage.state, passage.jobs, passage.items_done) == ("COMPLETED", chunks_of(count), count)
    is_flat = passage.peak_mb <= MAX_GROWTH * passage.early_mb
    _say("everything was as it must be" if is_right and is_flat else "it was NOT as it must be")
    return int(not (is_right and is_flat))


def _prepare(folder: Path) -> None:
    (folder / "library").mkdir()
    (folder / "definitions.yaml").write_text(DEFINITION)
    install_step(folder / "site")
    for name in list(os.environ):
        if name.startswith(("PHOTOJOBS_", "PREFECT_")):
            del os.environ[name]
    os.environ |= {
        "PHOTOJOBS_DATABASE_URL": f"sqlite:///{folder / 'photojobs.db'}",
        "PHOTOJOBS_LIBRARY_ROOT": str(folder / "library"),
        "PHOTOJOBS_DEFINITIONS": str(folder / "definitions.yaml"),
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", str(Path.cwd()))]),
    }
    # This process needs the step too, because it checks the definitions before it starts other processes.
    sys.path.insert(0, str(folder / "site"))


if __name__ == "__main__":
    sys.exit(main())
