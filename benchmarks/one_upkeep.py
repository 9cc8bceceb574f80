"""Runs the nightly upkeep of a library. `benchmarks.upkeep` starts this script, also with other builds of photojobs.

`make FOLDER FILES PROJECTS` creates a library whose photos have derivatives, and runs the upkeep once. `measure FOLDER`
runs the upkeep again and prints times and memory. `verify FOLDER` reads all originals again.
"""

import hashlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from flows.process.runtime import Runtime
from flows.testing import run_step
from storage import Database, ProjectsRepository, Settings
from task_definitions import load_definitions

_NOW = "2025-10-01T12:00:00.000Z"


def make(folder: Path, files: int, projects: int) -> None:
    """Create the library `FOLDER/library` if it does not exist, and a database for this build beside it."""
    root = folder / "library"
    is_new = not root.exists()
    database = Database(_database(folder))
    database.migrate()
    for number in range(projects):
        project = ProjectsRepository(database).create(
            project_name=f"project {number}", project_folder=f"project {number}", tenant_id="user_0"
        )
        place = root / "user_0" / project.project_folder
        if is_new:
            _write_files(place, [f"p{number}-{file}" for file in range(files // projects)])
        with database.begin() as connection:
            _write_rows(connection, place, project.id)
    database.close()
    measure(folder)


def measure(folder: Path) -> dict[str, float]:
    """Run the upkeep; return the wall and processor time of each step and the peak memory of this process."""
    found: dict[str, float] = {}
    began, used = time.perf_counter(), time.process_time()
    settings = Settings.load(database_url=f"sqlite:///{_database(folder)}", library_root=folder / "library")
    with Runtime(Database(_database(folder)), settings=settings) as runtime:
        for step in load_definitions()["maintenance_global"].steps:
            step_began = time.process_time()
            job: Any = run_step(runtime, type=step.type, tenant_id="user_0", scope="global")
            assert job.status == "completed", job.error_message
            found[step.type] = time.process_time() - step_began
    # Image processes are included, if there are any.
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    found["processor"] = time.process_time() - used + children.ru_utime + children.ru_stime
    found["wall"] = time.perf_counter() - began
    return found | {"peak_mb": _peak_mb()}


def verify(folder: Path) -> dict[str, float]:
    """Read all originals again; return the duration and the peak memory of this process."""
    began = time.perf_counter()
    settings = Settings.load(database_url=f"sqlite:///{_database(folder)}", library_root=folder / "library")
    unlimited = {"bytes_per_run": 0, "megabytes_per_second": 0}
    with Runtime(Database(_database(folder)), settings=settings) as runtime:
        job: Any = run_step(runtime, type="verify_originals", tenant_id="user_0", scope="global", payload=unlimited)
    assert job.status == "completed", job.error_message
    return {"wall": time.perf_counter() - began, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    [peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return int(peak) / 1024


def _hash(name: str) -> str:
    """Return the hash of the file with this name, by an algorithm that all builds support."""
    return "blake2b-128:" + hashlib.blake2b(name.removesuffix(".jpg").encode(), digest_size=16).hexdigest()


def _database(folder: Path) -> Path:
    # Each build has a separate database, named after the folder that contains its virtual environment.
    return folder / f"{Path(sys.prefix).parent.as_posix().strip('/').replace('/', '-')}.db"


def _write_rows(connection: Any, place: Path, project_id: int) -> None:
    """Write rows of photos whose derivatives are current, in the tables of this build."""
    insert = (
        "INSERT INTO photos (project_id, filename, jpg_available, keep_jpg, thumbnail_status, preview_status, "
        "created_at, updated_at) VALUES (?, ?, 1, 1, 'generated', 'generated', ?, ?)"
    )
    names = sorted(path.name for path in place.glob("*.jpg"))
    connection.exec_driver_sql(insert, [(project_id, name.removesuffix(".jpg"), _NOW, _NOW) for name in names])
    query = "SELECT filename, id FROM photos WHERE project_id = ?"
    ids = dict(map(tuple, connection.exec_driver_sql(query, (project_id,)).all()))
    looks = [(ids[name.removesuffix(".jpg")], name, (place / name).lstat()) for name in names]
    has_originals = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'photo_originals'").first()
    if has_originals:
        connection.exec_driver_sql(
            "INSERT INTO photo_originals (photo_id, name, kind, size_bytes, mtime_ns, ctime_ns, content_hash, "
            "hashed_at) VALUES (?, ?, 'jpg', ?, ?, ?, ?, ?)",
            [
                (photo_id, name, at.st_size, at.st_mtime_ns, at.st_ctime_ns, _hash(name), _NOW)
                for photo_id, name, at in looks
            ],
        )
    columns = "" if has_originals else ", source_size_bytes, source_mtime_ns"
    sources = [() if has_originals else (at.st_size, at.st_mtime_ns) for _, _, at in looks]
    statement = (
        f"INSERT INTO photo_derivatives (photo_id, kind, source_name, source_hash, generated_at{columns}) "
        f"VALUES (?, ?, ?, ?, ?{', ?, ?' if columns else ''})"
    )
    for kind in ("thumbnail", "preview", "metadata"):
        rows = [
            (photo_id, kind, name, _hash(name), _NOW, *source)
            for (photo_id, name, _), source in zip(looks, sources, strict=True)
        ]
        connection.exec_driver_sql(statement, rows)


def _write_files(place: Path, names: list[str]) -> None:
    for folder, extension in (("", "jpg"), (".thumb", "webp"), (".preview", "webp")):
        (place / folder).mkdir(parents=True)
        for name in names:
            descriptor = os.open(place / folder / f"{name}.{extension}", os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, name.encode())
            os.close(descriptor)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, files, projects]:
            make(Path(folder), int(files), int(projects))
        case ["measure", folder]:
            print(json.dumps(measure(Path(folder))))
        case ["verify", folder]:
            print(json.dumps(verify(Path(folder))))
