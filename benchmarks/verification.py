"""Measures `verify_originals` compared with hashing the same files, and how much time hashing adds to `process_photos`.

The files are in memory, so the processor is measured and not the disk. The other sides are the package `blake3`, which
maps a file into memory and uses all cores, as `b3sum` does, and `sha256sum`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blake3 import blake3

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command
from benchmarks.photographs import write_photograph
from flows.imaging import fingerprint
from flows.process.runtime import Runtime
from flows.testing import run_step
from storage import Database, PhotosRepository, ProjectsRepository, Settings

_TENANT = "user_0"


def run(options: Options) -> Report:
    """Measure verifying files with random contents, and making derivatives of photographs with and without hashes."""
    report = Report("verification", notes=["SQLite; files in memory; without a limit of bytes a second"])
    count, size_mb = options.size(100, 4), options.size(25, 1)
    ours, mapped, sha256 = [], [], []
    with _library({f"p{number}.jpg": os.urandom(size_mb << 20) for number in range(count)}) as (runtime, place, _):
        files = sorted(place.glob("*.jpg"))
        verify = {"bytes_per_run": 0, "megabytes_per_second": 0}
        _run(runtime, "verify_originals", scope="global", payload=verify)
        for _ in range(options.rounds(5)):
            ours.append(_rate(files, lambda: _run(runtime, "verify_originals", scope="global", payload=verify)))
            mapped.append(_rate(files, lambda: [blake3(max_threads=blake3.AUTO).update_mmap(file) for file in files]))
            sha256.append(_rate(files, lambda: subprocess.run(["sha256sum", *files], stdout=subprocess.DEVNULL)))
    what = f"verify {count} files of {size_mb} MiB"
    report.ratios += [
        Ratio(what=what, unit="MB/s", ours=ours, others=mapped, against="blake3, all cores", target=0.8),
        Ratio(what=what, unit="MB/s", ours=ours, others=sha256, against="sha256sum", target=0.8),
    ]
    _measure_hashing(report, options)
    return report


def _measure_hashing(report: Report, options: Options) -> None:
    count = options.size(60, 2)
    with temporary_folder() as folder:
        write_photograph(folder / "a.jpg", *((6000, 4000) if not options.small else (600, 400)), seed=1)
        picture = (folder / "a.jpg").read_bytes()
    hashed, unhashed = [], []
    for _ in range(options.rounds(5)):
        for taken, is_hashed in ((hashed, True), (unhashed, False)):
            with (
                _library({f"p{number}.jpg": picture for number in range(count)}) as (runtime, _, ids),
                _hashing(is_hashed),
            ):
                began = time.perf_counter()
                _run(runtime, "generate_derivatives", items=[{"photo_id": photo_id} for photo_id in ids])
                taken.append(time.perf_counter() - began)
    what = f"derivatives of {count} photographs of 24 megapixels"
    report.ratios.append(
        Ratio(what=what, unit="s", ours=hashed, others=unhashed, against="without hash", target=1.05, at_least=False)
    )


@contextmanager
def _library(contents: dict[str, bytes]) -> Iterator[tuple[Runtime, Path, list[int]]]:
    with temporary_folder() as folder:
        place = folder / "library" / _TENANT / "all"
        place.mkdir(parents=True)
        for name, content in contents.items():
            (place / name).write_bytes(content)
        database = Database(folder / "photojobs.db")
        database.migrate()
        project = ProjectsRepository(database).create(project_name="all", project_folder="all", tenant_id=_TENANT)
        ids = PhotosRepository(database).create_many(
            {"project_id": project.id, "filename": Path(name).stem, "jpg_available": 1} for name in contents
        )
        settings = Settings.load(library_root=folder / "library", image_isolation=False)
        with Runtime(database, settings=settings) as runtime:
            yield runtime, place, ids
        database.close()


@contextmanager
def _hashing(is_wanted: bool) -> Iterator[None]:
    usual = fingerprint.blocks
    if not is_wanted:
        # Without blocks, no file is read for its hash.
        fingerprint.blocks = lambda file: iter(())
    try:
        yield
    finally:
        fingerprint.blocks = usual


def _run(runtime: Runtime, type: str, **arguments: Any) -> None:
    job: Any = run_step(runtime, type=type, tenant_id=_TENANT, **arguments)
    assert job.status == "completed", job.error_message
    assert job.result["counts"], f"the step {type} processed no file"


def _rate(files: list[Path], read: Callable[[], object]) -> float:
    began = time.perf_counter()
    read()
    return sum(file.stat().st_size for file in files) / 10**6 / (time.perf_counter() - began)


if __name__ == "__main__":
    command(run)
