"""`photojobs doctor` reports what works, and each kind of problem."""

from __future__ import annotations

import contextlib
import http.server
import json
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from deployments.doctor.database import examine_database
from deployments.doctor.file_systems import file_system_type
from deployments.doctor.finding import Finding, Standing
from deployments.doctor.installation import examine_packages, examine_steps
from deployments.doctor.library import examine_folders, examine_library
from deployments.doctor.schedules import examine_schedules
from deployments.doctor.surroundings import examine_clocks, examine_space
from deployments.status.scheduled_runs import ScheduledRun
from deployments.status.scheduled_runs import Standing as RunStanding
from storage import Database, ProjectsRepository
from storage.library.errors import LibraryUnavailable
from storage.library.paths import Library, TenantFolder
from storage.settings import Settings
from task_definitions import PhotojobsError

Command = Callable[..., Any]


def of(findings: Iterator[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_a_place_that_is_well_has_no_problem_and_is_left_as_it_was(
    command: Command, place: Any, place_database: Database
) -> None:
    (place.library / "user_0" / "Iceland").mkdir(parents=True)
    place_database.close()
    before = place.files()

    ran = command("doctor", "--json")

    assert ran.code == 0, ran.out
    assert ran.document["is_well"]
    standings = {(one["area"], one["name"]): one["standing"] for one in ran.document["findings"]}
    for what in ("schema", "integrity", "writable", "journal", "file_system"):
        assert standings["database", what] == "fine"
    for what in ("exists", "writable", "rename", "case", "projects"):
        assert standings["library", what] in ("fine", "warning")
    assert standings["packages", "versions"] == standings["steps", "plug_ins"] == standings["pictures", "formats"]
    assert all(one["remedy"] for one in ran.document["findings"] if one["standing"] != "fine")
    assert place.files() == before


def test_without_a_database_and_a_library_it_says_what_to_do_and_makes_neither(command: Command, place: Any) -> None:
    place.library.rmdir()

    ran = command("doctor", "--quiet")

    assert ran.code == 1
    assert "photojobs init" in ran.out
    assert " fine " not in ran.out
    assert place.files() == set()


def test_an_empty_library_is_a_problem_where_the_database_knows_of_projects(place: Any) -> None:
    library = Library(place.library)

    assert of(examine_library(library, has_projects=True), "exists").standing is Standing.PROBLEM
    assert of(examine_library(library, has_projects=False), "exists").standing is Standing.WARNING


def test_projects_without_a_folder_are_named_before_upkeep_archives_them(place: Any, place_database: Database) -> None:
    library, projects = Library(place.library), ProjectsRepository(place_database)
    assert list(examine_folders(library, place_database)) == []
    for name in ("Alps", "Peru"):
        projects.create(project_name=name, project_folder=name)

    (found,) = examine_folders(library, place_database)
    assert (found.standing, "Alps, Peru" in found.says) == (Standing.PROBLEM, True)

    (place.library / "user_0" / "Peru").mkdir(parents=True)
    (found,) = examine_folders(library, place_database)
    assert (found.standing, found.says.endswith("1 of 2 projects: Alps.")) == (Standing.WARNING, True)

    projects.archive(1)
    (found,) = examine_folders(library, place_database)
    assert found.standing is Standing.FINE


def test_the_folder_of_a_tenant_that_cannot_be_read_is_not_counted_as_a_project(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.library / "user_0").mkdir()

    def fail(_: object) -> None:
        raise LibraryUnavailable("user_0 cannot be read.")

    monkeypatch.setattr(TenantFolder, "project_folders", fail)
    monkeypatch.setattr("deployments.doctor.library.file_system_type", lambda _: None)

    found = list(examine_library(Library(place.library), has_projects=False))

    assert of(iter(found), "projects").says == "1 folder cannot be read or cannot be written: user_0 cannot be read."
    assert of(iter(found), "file_system").says == "The operating system does not report the library's file system."


def test_a_file_that_is_no_database_is_a_problem_and_stays(command: Command, place: Any) -> None:
    place.database_file.write_bytes(b"Dear diary, this is not a database at all. " * 50)
    before = place.database_file.read_bytes()

    ran = command("doctor", "--json")

    assert ran.code == 1
    assert any(one["area"] == "database" and one["standing"] == "problem" for one in ran.document["findings"])
    assert place.database_file.read_bytes() == before


@pytest.mark.parametrize("content", ["", "CREATE TABLE albums (id INTEGER PRIMARY KEY)"])
def test_a_database_without_our_tables_is_one_problem_with_the_right_advice(place: Any, content: str) -> None:
    place.database_file.touch()
    with contextlib.closing(sqlite3.connect(place.database_file)) as other:
        other.execute(content)
    before = place.database_file.read_bytes()
    with contextlib.closing(Database(place.database_file)) as database:
        odd = [one for one in examine_database(database) if one.standing is not Standing.FINE]

    assert [(one.name, one.says) for one in odd] == [("schema", "The database has no tables of photojobs.")]
    assert "Check that it is the right database" in odd[0].remedy
    assert place.database_file.read_bytes() == before


def test_a_newer_schema_is_one_problem_and_nobody_is_sent_to_upgrade_it(place_database: Database) -> None:
    with place_database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    odd = [one for one in examine_database(place_database) if one.standing is not Standing.FINE]

    assert [(one.name, one.remedy) for one in odd] == [("newer_schema", "Upgrade photojobs.")]


def test_impossible_rows_are_found_with_their_remedy(place_database: Database) -> None:
    ProjectsRepository(place_database).create(project_name="Iceland", project_folder="Iceland")
    with place_database.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO jobs (tenant_id, type, status, scope, priority, created_at, attempts) "
            "VALUES ('t', 'metadata', 'dancing', 'photo_set', 1, '2025-10-01T12:00:00.000Z', 0)"
        )

    odd = [one for one in examine_database(place_database) if one.standing is not Standing.FINE]

    assert odd
    assert all(one.remedy for one in odd)


def test_the_rights_of_the_user_are_looked_at(postgresql_url: str) -> None:
    owner = Database(postgresql_url)
    role = f"photojobs_{uuid.uuid4().hex[:8]}"
    with owner.begin() as connection:
        database = connection.execute(text("SELECT current_database()")).scalar_one()
        for statement in (
            f"CREATE ROLE {role} LOGIN PASSWORD '{role}'",
            f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
            f"REVOKE DELETE ON holds FROM {role}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
            f"REVOKE USAGE ON SEQUENCE jobs_id_seq FROM {role}",
        ):
            connection.execute(text(statement))
    assert of(examine_database(owner), "rights").standing is Standing.FINE
    url = owner.engine.url.set(username=role, password=role)
    limited = Database(url.render_as_string(hide_password=False))
    try:
        rights = of(examine_database(limited), "rights")
        names = {one.name: one.standing for one in examine_database(limited)}
        with owner.begin() as connection:
            connection.execute(text("REVOKE USAGE ON SCHEMA public FROM PUBLIC"))
        [shut_out] = examine_database(limited)
    finally:
        limited.close()
        with owner.begin() as connection:
            connection.execute(text("GRANT USAGE ON SCHEMA public TO PUBLIC"))
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))
        owner.close()
    assert rights.standing is Standing.PROBLEM
    assert rights.says == (
        "The database's user lacks these rights: TEMPORARY, CREATE, to read and write holds, to use the sequence "
        "public.jobs_id_seq."
    )
    assert rights.remedy.startswith("As the owner of the database, run: GRANT TEMPORARY ON DATABASE ")
    assert rights.remedy.endswith(f" GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role};")
    assert (shut_out.name, shut_out.standing) == ("rights", Standing.PROBLEM)
    assert "may not use any schema" in shut_out.says
    assert names["encoding"] is names["pooling"] is Standing.FINE


def test_a_broken_definition_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("nightly: {label: Nightly, steps: [{type: manifest_chek, priority: 5}]}\n")

    odd = [one for one in examine_steps(Settings(definitions=file)) if one.standing is Standing.PROBLEM]

    assert any("manifest_chek" in one.says for one in odd)


def test_a_package_out_of_its_range_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "3.8.8" if name == "prefect" else real(name))

    found = of(examine_packages(), "versions")

    assert found.standing is Standing.PROBLEM
    assert "prefect 3.8.8 is installed, but photojobs needs <3.10,>=3.9.1" in found.says
    assert found.remedy == "`pip install 'prefect<3.10,>=3.9.1'` installs what photojobs needs."


def test_a_missing_prefect_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "prefect":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)

    assert of(examine_packages(), "versions").says == "prefect is missing."


def test_a_schedule_whose_run_is_not_planned_yet_is_counted_too(
    monkeypatch: pytest.MonkeyPatch, place_database: Database
) -> None:
    runs = [
        ScheduledRun(definition=name, tenant_id="anna", when="0 3 * * * UTC", next_at=None, standing=standing)
        for name, standing in (("one", RunStanding.PLANNED), ("two", RunStanding.NOT_PLANNED_YET))
    ]
    monkeypatch.setattr("deployments.doctor.schedules.scheduled_runs", lambda *_: runs)

    found = of(examine_schedules(Settings(), place_database), "planned")

    assert found.says == "2 schedules: 1 with a planned run, 0 switched off or paused, 1 not planned yet."


def test_little_space_is_a_warning_and_none_a_problem(
    place: Any, place_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(library_root=place.library)
    for free, standing in ((10**12, Standing.FINE), (10**9, Standing.WARNING), (10**6, Standing.PROBLEM)):
        monkeypatch.setattr("deployments.doctor.surroundings.space", lambda _, free=free: (free, 10**12))
        assert {one.standing for one in examine_space(settings, place_database)} == {standing}
    # A file system that does not report its size may have space.
    monkeypatch.setattr("deployments.doctor.surroundings.space", lambda _: (0, 0))
    assert {one.standing for one in examine_space(settings, place_database)} == {Standing.FINE}


@contextmanager
def server_of_another_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a server that answers like a Prefect server of version 1.2.3 in 2025; PREFECT_API_URL names it."""

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", "Wed, 01 Oct 2025 12:00:00 GMT")
            self.end_headers()
            self.wfile.write(json.dumps("1.2.3").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def test_a_prefect_server_of_another_version_or_with_a_wrong_clock_is_noticed(
    command: Command, place: Any, place_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_of_another_version(monkeypatch):
        findings = {(one["area"], one["name"]): one for one in command("doctor", "--json").document["findings"]}

    assert findings["prefect", "server"]["standing"] == "warning"
    assert "1.2.3" in findings["prefect", "server"]["says"]
    assert (
        f"`pip install prefect=={metadata.version('prefect')}` on the server's"
        in findings["prefect", "server"]["remedy"]
    )
    assert findings["clocks", "prefect"]["standing"] == "problem"


def test_the_clock_of_a_database_server_is_compared(database: Database, place: Any) -> None:
    found = of(examine_clocks(Settings(library_root=place.library), database), "database")

    assert found.standing is Standing.FINE


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount_point(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /mnt/my\\040photos rw - nfs4 nas:/photos rw\n"
        "31 30 0:41 / /mnt/my\\040photos/cache rw - tmpfs tmpfs rw\n"
    )

    assert file_system_type(Path("/mnt/my photos/2025"), mounts=mounts) == "nfs4"
    assert file_system_type(Path("/mnt/my photos/cache/x"), mounts=mounts) == "tmpfs"
    assert file_system_type(Path("/mnt/my photos and more"), mounts=mounts) == "ext4"
    assert file_system_type(Path("/"), mounts=tmp_path / "none") is None


@pytest.mark.parametrize("line", ["up", "serve"])
def test_what_stays_says_that_the_named_server_has_another_version(
    command: Command, place: Any, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    class Ended(PhotojobsError):
        pass

    @contextmanager
    def ended(*_: object, **__: object) -> Iterator[None]:
        raise Ended("ended here")
        yield

    monkeypatch.setattr("deployments.serving.up.up", ended)
    with server_of_another_version(monkeypatch):
        ran = command(line)

    assert ran.code == 2
    assert "has Prefect 1.2.3" in ran.complaints[0]
