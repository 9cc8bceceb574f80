"""The step folder_discovery updates projects in SQL after users changed folders; no file is lost."""

from __future__ import annotations

import shutil

import pytest

from flows.handlers import announced_moves, project_claim
from flows.planning.plan import plan_task
from flows.steps.following.arrivals import Arrivals
from flows.testing import run_queued_job
from storage import JobsRepository, PhotosRepository, ProjectsRepository
from storage.library.manifest import Manifest, read_manifest, write_manifest
from tests.flows.steps.test_moved_by_hand import remember
from tests.storage.upkeep.test_legacy_upgrade import JOB_MORE, LegacyFile, create_tables


def _discover(studio, **arguments):
    return studio.run("folder_discovery", scope="global", **arguments)


def _projects(studio, tenant_id="tenant"):
    return ProjectsRepository(studio.database).list(tenant_id=tenant_id)


def _names(studio, project_id):
    return sorted(photo.filename for photo in PhotosRepository(studio.database).list_by_project(project_id))


@pytest.fixture
def folder(studio):
    """Create a folder with files without rows: `folder("Iceland", {"fox.jpg": b"…"}, tenant_id="other")`."""

    def make(name, files=(), *, tenant_id="tenant"):
        path = studio.root / tenant_id / name
        path.mkdir(parents=True)
        for file in files:
            (path / file).parent.mkdir(exist_ok=True)
            (path / file).write_bytes(files[file] if isinstance(files, dict) else f"{name}/{file}".encode())
        return path

    return make


@pytest.fixture
def known(studio, clock):
    """A function that creates a project with a manifest, as manifest_check writes it."""

    def make(name, **options):
        project = studio.project(name, **options)
        manifest = Manifest(name=name, id=project.id, created_at="2025-10-01T12:00:00.000Z")
        write_manifest(studio.folder(project), manifest, at=clock())
        return project

    return make


def test_a_folder_without_a_project_becomes_one_with_its_photos(studio, folder):
    folder("Iceland", ["fox.jpg", "fox.NEF", "fox.xmp", "owl.png", "notes.txt"])
    job = _discover(studio)
    assert job.status == "completed", job.error_message
    [project] = _projects(studio)
    assert (project.project_name, project.project_folder, project.tenant_id) == ("Iceland", "Iceland", "tenant")
    rows = {photo.filename: photo for photo in PhotosRepository(studio.database).list_by_project(project.id)}
    assert set(rows) == {"fox", "owl"}
    assert (rows["fox"].jpg_available, rows["fox"].raw_available, rows["owl"].other_available) == (1, 1, 1)
    manifest = read_manifest(studio.folder(project))
    assert (manifest.name, manifest.id) == ("Iceland", project.id)
    assert studio.folder(project).thumb.is_dir()
    assert "tenant/Iceland/notes.txt" in studio.disk()
    [follow_up] = JobsRepository(studio.database).list_by_tenant("tenant", status="queued")
    assert follow_up.type == "upload_postprocess"
    assert {item.photo_id for item in JobsRepository(studio.database).list_items(follow_up.id)} == {
        photo.id for photo in rows.values()
    }
    assert job.result["examples"]["projects created"] == ["Iceland"]


def test_running_it_twice_changes_nothing_more(studio, folder, known, clock):
    folder("Iceland", ["fox.jpg"])
    folder("Empty")
    known("Norway")
    gone = known("Gone")
    shutil.rmtree(studio.folder(gone).path)
    _discover(studio)
    before = studio.everything()
    clock.advance(seconds=3600)
    assert _discover(studio).status == "completed"
    assert studio.everything() == before


def test_other_tenants_hidden_folders_files_and_symlinks_are_left_alone(studio, folder):
    folder("Theirs", ["fox.jpg"], tenant_id="other")
    folder(".hidden", ["fox.jpg"])
    folder("Mine")
    outside = studio.root.parent / "outside"
    outside.mkdir()
    (studio.root / "tenant" / "Link").symlink_to(outside)
    (studio.root / "tenant" / "note.txt").write_text("a file")
    _discover(studio)
    assert [project.project_folder for project in ProjectsRepository(studio.database).list()] == ["Mine"]


def test_a_renamed_folder_keeps_its_project_and_its_rows(studio, known):
    project = known("Iceland")
    photo_id = studio.photo(project, "fox", "jpg")
    studio.folder(project).path.rename(studio.root / "tenant" / "Iceland 2024")
    job = _discover(studio)
    assert job.status == "completed", job.error_message
    [renamed] = _projects(studio)
    assert (renamed.id, renamed.project_folder, renamed.project_name) == (project.id, "Iceland 2024", "Iceland 2024")
    assert studio.get_photo(photo_id).project_id == project.id
    assert studio.journal() == [("followed_folder", "tenant/Iceland", "tenant/Iceland 2024")]
    assert read_manifest(studio.folder(renamed)).name == "Iceland 2024"


def test_a_project_with_a_name_of_its_own_keeps_it_when_its_folder_is_renamed(studio, known):
    project = known("Iceland")
    ProjectsRepository(studio.database).rename(project.id, project_name="Our best summer")
    studio.folder(project).path.rename(studio.root / "tenant" / "2024")
    _discover(studio)
    [renamed] = _projects(studio)
    assert (renamed.project_folder, renamed.project_name) == ("2024", "Our best summer")


def test_a_folder_renamed_in_case_alone_needs_no_manifest(studio):
    project = studio.project("Iceland")
    studio.folder(project).path.rename(studio.root / "tenant" / "ICELAND")
    _discover(studio)
    assert [(one.id, one.project_folder) for one in _projects(studio)] == [(project.id, "ICELAND")]


@pytest.mark.parametrize("runtime", [{"merge_folders": False}], indirect=True)
def test_a_copy_is_a_project_of_its_own(studio, known):
    project = known("Iceland")
    studio.photo(project, "fox", "jpg", "NEF")
    copy = studio.root / "tenant" / "Iceland for print"
    shutil.copytree(studio.folder(project).path, copy)
    (copy / "fox.jpg").write_bytes(b"edited for print")
    (copy / "fox.jpg.pp3").write_bytes(b"edits")
    before = {name: content for name, content in studio.disk().items() if not name.endswith(".yaml")}
    job = _discover(studio)
    assert job.status == "completed", job.error_message
    assert {name: content for name, content in studio.disk().items() if not name.endswith(".yaml")} == before
    own, made = _projects(studio)
    assert (own, made.project_name, made.project_folder) == (project, "Iceland for print", "Iceland for print")
    assert [read_manifest(studio.folder(one)).id for one in (own, made)] == [own.id, made.id]
    assert _names(studio, made.id) == ["fox"]
    everything = studio.everything()
    assert _discover(studio).status == "completed"
    assert studio.everything() == everything


@pytest.mark.parametrize("runtime", [{"merge_folders": False}, {"merge_folders": True}], indirect=True)
def test_folders_that_differ_in_case_alone_are_two_projects(studio, known, folder):
    project = known("Alps")
    studio.photo(project, "fox", "jpg")
    folder("alps", {"fox.jpg": b"another fox", "fox.jpg.pp3": b"its edits"})
    before = studio.disk()
    _discover(studio)
    assert before.items() <= studio.disk().items()
    assert [(one.project_folder, _names(studio, one.id)) for one in _projects(studio)] == [
        ("Alps", ["fox"]),
        ("alps", ["fox"]),
    ]


def test_a_copy_is_merged_where_so_set_and_what_is_the_same_stays_where_it_is(studio, known):
    project = known("Iceland")
    studio.photo(project, "fox", "jpg", "NEF")
    copy = studio.root / "tenant" / "Iceland copy"
    shutil.copytree(studio.folder(project).path, copy)
    (copy / "owl.jpg").write_bytes(b"only in the copy")
    (copy / "fox.xmp").write_bytes(b"sidecar")
    job = _discover(studio)
    assert job.status == "completed", job.error_message
    disk = studio.disk()
    assert disk["tenant/Iceland/owl.jpg"] == b"only in the copy"
    assert disk["tenant/Iceland/fox.xmp"] == b"sidecar"
    assert {"tenant/Iceland copy/fox.jpg", "tenant/Iceland copy/fox.NEF"} < set(disk)
    assert [one.id for one in _projects(studio)] == [project.id]
    assert _names(studio, project.id) == ["fox", "owl"]
    assert sorted(studio.journal()) == [
        ("moved", "tenant/Iceland copy/fox.xmp", "tenant/Iceland/fox.xmp"),
        ("moved", "tenant/Iceland copy/owl.jpg", "tenant/Iceland/owl.jpg"),
    ]
    assert job.result["counts"]["kept"] == 2
    before = studio.everything()
    assert _discover(studio).status == "completed"
    assert studio.everything() == before


def test_a_merge_takes_the_folders_of_companions_along(studio, known):
    project = known("Iceland")
    studio.photo(project, "fox", "NEF")
    own = studio.folder(project).path / "NKSC_PARAM"
    own.mkdir()
    (own / "fox.NEF.nksc").write_bytes(b"the same")
    copy = studio.root / "tenant" / "Iceland copy"
    shutil.copytree(studio.folder(project).path, copy)
    (copy / "owl.NEF").write_bytes(b"only in the copy")
    (copy / "fox.NEF").unlink()
    (copy / "fox.jpg").write_bytes(b"JPEG")
    settings, cache = copy / "CaptureOne" / "Settings166", copy / "CaptureOne" / "Cache"
    for folder in (settings, cache):
        folder.mkdir(parents=True)
        (folder / "owl.NEF.cos").write_bytes(b"edits")
    (copy / "NKSC_PARAM" / "owl.NEF.nksc").write_bytes(b"owl")

    job = _discover(studio)

    assert job.status == "completed", job.error_message
    disk = studio.disk()
    assert disk["tenant/Iceland/CaptureOne/Settings166/owl.NEF.cos"] == b"edits"
    assert disk["tenant/Iceland/NKSC_PARAM/owl.NEF.nksc"] == b"owl"
    left = sorted(path for path in disk if path.startswith("tenant/Iceland copy/") and "/." not in path)
    assert left == ["tenant/Iceland copy/CaptureOne/Cache/owl.NEF.cos", "tenant/Iceland copy/NKSC_PARAM/fox.NEF.nksc"]
    assert not settings.exists()
    assert [one.id for one in _projects(studio)] == [project.id]
    before = studio.everything()
    assert _discover(studio).status == "completed"
    assert studio.everything() == before


@pytest.mark.parametrize("different", ["fox.jpg", "notes.txt", "fox.jpg.pp3", "NKSC_PARAM/fox.jpg.nksc", "hare.jpg"])
def test_nothing_is_merged_if_a_file_of_one_name_differs(studio, known, folder, different):
    project = known("Iceland")
    studio.photo(project, "fox", "jpg")
    (studio.folder(project).path / "NKSC_PARAM").mkdir()
    for name in {"notes.txt", "fox.jpg.pp3", "owl.jpg", "NKSC_PARAM/fox.jpg.nksc"}:
        (studio.folder(project).path / name).write_bytes(b"the same")
    files = {"fox.jpg": b"Iceland/fox.jpg", "notes.txt": b"the same", "fox.jpg.pp3": b"the same", "elk.jpg": b"elk"}
    # The file of this photo is missing in the project, but its contents are known.
    remember(studio, project, studio.photo(project, "hare", "jpg"), "hare.jpg")
    (studio.folder(project).path / "hare.jpg").rename(studio.root.parent / "hare.jpg")
    files["hare.jpg"] = b"Iceland/hare.jpg"
    folder("iceland", files | {different: b"differs"})
    before = studio.disk()
    job = _discover(studio)
    assert before.items() <= studio.disk().items()
    assert [one.project_folder for one in _projects(studio)] == ["Iceland", "iceland"]
    assert different in job.result["examples"]["folders not merged"][0]


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ({"fox_01.jpg.xmp"}, {"fox_01.jpg"}),
        ({"fox_01.jpg"}, {"fox_01.jpg.xmp"}),
        ({"fox.MP"}, {"fox.MP.jpg"}),
        ({"fox_01.jpg.xmp"}, {"fox_01.jpg.xmp", "fox_01.jpg"}),
    ],
)
def test_nothing_is_merged_if_a_companion_would_get_another_photo(studio, known, folder, present, found):
    project = known("Iceland")
    studio.photo(project, "fox", "jpg")
    for name in present:
        (studio.folder(project).path / name).write_bytes(b"the same")
    folder("iceland", {"fox.jpg": b"Iceland/fox.jpg"} | dict.fromkeys(found, b"the same"))
    before = studio.disk()
    job = _discover(studio)
    assert before.items() <= studio.disk().items()
    assert [one.project_folder for one in _projects(studio)] == ["Iceland", "iceland"]
    assert "belongs to photo fox" in job.result["examples"]["folders not merged"][0]


def test_a_merge_moves_the_files_of_a_photo_together(studio, known, folder, monkeypatch):
    project = known("Iceland")
    studio.photo(project, "fox", "jpg")
    studio.photo(project, "elk")
    files = {"owl.jpg", "owl.jpg.xmp", "owl.MOV", "owl_01.jpg.xmp", "elk.jpg"}
    folder("iceland", {"fox.jpg": b"Iceland/fox.jpg"} | dict.fromkeys(files, b"only here"))
    move = announced_moves.move_without_overwrite

    def fail(source, target, **options):
        if source.name == "owl.jpg.xmp":
            raise OSError(5, "Input/output error")
        move(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(announced_moves, "move_without_overwrite", fail)
        _discover(studio)
    # The photo that shows whose copy the folder is moves last.
    assert {f"tenant/iceland/{name}" for name in files} < set(studio.disk())
    _discover(studio)
    assert {f"tenant/Iceland/{name}" for name in files} < set(studio.disk())
    assert [one.id for one in _projects(studio)] == [project.id]


def test_two_folders_of_one_name_that_share_no_photo_are_two_projects(studio, known, folder, clock):
    project = known("Iceland")
    studio.photo(project, "fox", "jpg")
    path = folder("Iceland 2", ["owl.jpg"])
    (path / ".project.yaml").write_text("name: Iceland\nid: 4711\ncreated_at: '2020-01-01'\nversion: '1.0'\n")
    _discover(studio)
    assert [(one.project_name, one.project_folder) for one in _projects(studio)] == [
        ("Iceland", "Iceland"),
        ("Iceland", "Iceland 2"),
    ]


def test_an_emptied_copy_of_a_project_is_no_project(studio, known):
    project = known("Iceland")
    studio.photo(project, "fox", "jpg")
    copy = studio.root / "tenant" / "Iceland copy"
    shutil.copytree(studio.folder(project).path, copy)
    (copy / "fox.jpg").unlink()
    job = _discover(studio)
    assert [one.id for one in _projects(studio)] == [project.id]
    assert job.result["counts"] == {"empty folders ignored": 1}


def test_a_project_whose_folder_is_gone_is_archived_and_comes_back_with_it(studio, known, folder, clock):
    project, _ = known("Iceland"), known("Norway")
    photo_id = studio.photo(project, "fox", "jpg")
    away = studio.root.parent / "away"
    studio.folder(project).path.rename(away)
    job = _discover(studio)
    assert job.result["examples"]["archived"] == ["Iceland"]
    assert ProjectsRepository(studio.database).get_by_id(project.id).is_archived
    assert studio.get_photo(photo_id) is not None
    clock.advance(seconds=3600)
    away.rename(studio.root / "tenant" / "Iceland")
    # No user deleted the project, so the steps that clean up after deletions must not change it.
    studio.run("project_scavenge", scope="global")
    assert "tenant/Iceland/fox.jpg" in studio.disk()
    job = _discover(studio)
    assert job.result["examples"]["projects reactivated"] == ["Iceland"]
    assert not ProjectsRepository(studio.database).get_by_id(project.id).is_archived


def test_a_project_that_was_away_comes_back_under_another_name_as_well(studio, known, clock):
    project, _ = known("Iceland"), known("Norway")
    away = studio.root.parent / "away"
    studio.folder(project).path.rename(away)
    _discover(studio)
    away.rename(studio.root / "tenant" / "Back")
    _discover(studio)
    found = ProjectsRepository(studio.database).get_by_id(project.id)
    assert (found.project_folder, found.is_archived) == ("Back", False)


def test_a_deleted_project_does_not_come_back(studio, known):
    project = known("Iceland")
    studio.photo(project, "fox", "jpg")
    ProjectsRepository(studio.database).archive(project.id)
    before = studio.everything()
    assert _discover(studio).status == "completed"
    assert studio.everything() == before


def test_nothing_is_archived_while_the_disk_is_away(studio, known):
    project, other = known("Iceland"), known("Norway")
    before = ProjectsRepository(studio.database).get_by_id(project.id)
    (studio.root / "tenant").rename(studio.root / "elsewhere")
    for make in (lambda: None, (studio.root / "tenant").mkdir):
        make()
        job = _discover(studio)
        assert job.status == "queued"
        assert "Mount its disk" in job.error_message
    # A user may have removed the folder of the only project, which `orphaned_project_cleanup` archives.
    ProjectsRepository(studio.database).archive(other.id)
    assert _discover(studio).status == "completed"
    shutil.rmtree(studio.root)
    assert _discover(studio).status == "queued"
    studio.root.mkdir()
    assert _discover(studio).status == "queued"
    assert ProjectsRepository(studio.database).get_by_id(project.id) == before


def test_a_tenant_without_folder_and_projects_has_nothing_to_discover(studio, folder):
    folder("Theirs", tenant_id="other")
    assert _discover(studio).status == "completed"
    assert _projects(studio) == []


def test_an_unreadable_manifest_goes_to_the_trash_and_the_folder_becomes_a_project(studio, folder):
    path = folder("Iceland", ["fox.jpg"])
    (path / ".project.yaml").write_text("[broken")
    _discover(studio)
    [project] = _projects(studio)
    assert read_manifest(studio.folder(project)).id == project.id
    assert studio.disk()["tenant/Iceland/.trash/.project.yaml"] == b"[broken"


def test_one_folder_that_fails_does_not_stop_the_others(studio, folder, monkeypatch):
    from flows.steps.projects import folder_discovery

    folder("A", ["fox.jpg"])
    folder("B", ["fox.jpg"])
    write = folder_discovery.write_manifest_if_different

    def failing(ctx, project, folder):
        if folder.project_folder == "A":
            raise OSError("no space left")
        return write(ctx, project, folder)

    monkeypatch.setattr(folder_discovery, "write_manifest_if_different", failing)
    job = _discover(studio)
    assert job.status == "queued"
    assert job.error_message.startswith("1 of 2 folders failed: A: no space left")
    assert {one.project_folder for one in _projects(studio)} == {"A", "B"}
    monkeypatch.undo()
    JobsRepository(studio.database).requeue(job.id)
    assert run_queued_job(studio.runtime, job.id).status == "completed"
    assert all(read_manifest(studio.folder(one)).id == one.id for one in _projects(studio))


@pytest.mark.slow_on("postgresql")
def test_a_death_at_any_point_is_repaired_by_the_next_run(studio, folder, known, deaths):
    def prepare(studio):
        project = known("Iceland")
        studio.photo(project, "fox", "jpg")
        studio.photo(project, "owl", "jpg")
        folder("iceland", {"fox.xmp": b"sidecar", "elk.jpg": b"elk", "owl.jpg": b"Iceland/owl.jpg"})
        folder("Iceland copy", {"fox.jpg": b"another", "elk.jpg": b"elk"})
        folder("New", ["lynx.jpg"])
        renamed = known("Norway")
        studio.folder(renamed).path.rename(studio.root / "tenant" / "Norway 2024")
        gone = known("Gone")
        shutil.rmtree(studio.folder(gone).path)
        return studio.enqueue("folder_discovery", scope="global")

    deaths.check(prepare, more_than=12)


class TestInAFileOfAnotherProgram:
    """In such a file, the names of folders are unique over all tenants."""

    @pytest.fixture
    def database(self, tmp_path, clock):
        file = LegacyFile(tmp_path / "library.db")
        create_tables(file, job_columns=JOB_MORE)
        with file.database(clock=clock) as database:
            database.migrate()
            yield database

    def test_a_folder_name_that_another_tenants_project_has_gets_a_number(self, studio, folder):
        studio.project("Iceland", tenant_id="other")
        folder("Iceland", ["fox.jpg"])
        job = _discover(studio)
        assert job.status == "completed", job.error_message
        [project] = _projects(studio)
        assert (project.project_name, project.project_folder) == ("Iceland", "Iceland_2")
        assert "tenant/Iceland_2/fox.jpg" in studio.disk()
        assert studio.journal() == [("renamed_folder", "tenant/Iceland", "tenant/Iceland_2")]

    @pytest.mark.parametrize("runtime", [{"rename_user_files": "report"}], indirect=True)
    def test_a_folder_name_that_another_tenants_project_has_is_reported_unless_renames_are_asked_for(
        self, studio, folder
    ):
        studio.project("Iceland", tenant_id="other")
        folder("Iceland", ["fox.jpg"])
        folder("Norway", ["owl.jpg"])

        job = _discover(studio)

        assert job.status == "completed", job.error_message
        assert "tenant/Iceland/fox.jpg" in studio.disk()
        assert [one.project_folder for one in _projects(studio) if one.tenant_id == "tenant"] == ["Norway"]
        assert job.result["examples"]["skipped"][0].startswith("Iceland: another tenant's project")

    @pytest.mark.parametrize("runtime", [{"rename_user_files": "report"}], indirect=True)
    def test_a_plan_skips_the_folder_as_the_run_does(self, studio, folder):
        studio.project("Iceland", tenant_id="other")
        folder("Iceland", ["fox.jpg"])
        with studio.runtime.as_current():
            plan = plan_task(type="folder_discovery", tenant_id="tenant")
        assert plan.steps[0].tally.counts == {}
        assert plan.steps[0].remarks["skipped"][0] == 1

    def test_a_folder_renamed_to_a_name_that_another_tenants_project_has_keeps_its_project(self, studio, known, clock):
        studio.project("Iceland", tenant_id="other")
        project = known("Norway")
        photo_id = studio.photo(project, "fox", "jpg")
        remember(studio, project, photo_id, "fox.jpg")
        studio.folder(project).path.rename(studio.root / "tenant" / "Iceland")
        for _ in range(2):
            job = _discover(studio)
            assert job.result["examples"]["skipped"][0].startswith("Iceland: another tenant's project")
            assert not ProjectsRepository(studio.database).get(project.id).is_archived
            studio.run("orphaned_project_cleanup", scope="global")
            clock.advance(seconds=8 * 24 * 3600)
        assert studio.get_photo(photo_id) is not None
        (studio.root / "tenant" / "Iceland").rename(studio.root / "tenant" / "Ice")
        _discover(studio)
        assert studio.folder(ProjectsRepository(studio.database).get(project.id)).project_folder == "Ice"

    def test_a_folder_is_aligned_to_a_name_that_no_tenant_has(self, studio):
        studio.project("Iceland", tenant_id="other")
        own = studio.project("Norway")
        studio.photo(own, "fox", "jpg")
        ProjectsRepository(studio.database).rename(own.id, project_name="Iceland")
        studio.run("folder_alignment", scope="global")
        [aligned] = _projects(studio)
        assert aligned.project_folder == "Iceland_2"

    def test_a_rename_that_is_cut_short_is_finished(self, studio, deaths):
        def prepare(studio):
            studio.project("Iceland", tenant_id="other")
            folder = studio.root / "tenant" / "Iceland"
            folder.mkdir()
            (folder / "fox.jpg").write_bytes(b"fox")
            return studio.enqueue("folder_discovery", scope="global")

        deaths.check(prepare)
        assert "tenant/Iceland_2/fox.jpg" in studio.outcome()


def test_a_name_that_a_user_gives_a_project_while_the_step_waits_for_it_stays(studio, known, monkeypatch):
    project = known("Iceland")
    studio.folder(project).path.rename(studio.root / "tenant" / "Island")
    claim_projects = project_claim.claim_projects

    def claim_later(database, *arguments, **options):
        ProjectsRepository(database).rename(project.id, project_name="Summer")
        return claim_projects(database, *arguments, **options)

    monkeypatch.setattr(project_claim, "claim_projects", claim_later)
    assert _discover(studio).status == "completed"
    [found] = _projects(studio)
    assert (found.project_name, found.project_folder) == ("Summer", "Island")
    assert read_manifest(studio.folder(found)).name == "Summer"


def test_a_disk_that_is_unplugged_during_the_run_archives_no_project(studio, known, monkeypatch):
    for name in ("Iceland", "Norway"):
        known(name)

    def unplug(self):
        (studio.root / "tenant").rename(studio.root.parent / "unplugged")
        (studio.root / "tenant").mkdir()

    monkeypatch.setattr(Arrivals, "follow_moves", unplug)
    (studio.root / "other").mkdir()
    assert "is missing or empty, although its tenant has 2 projects" in _discover(studio).error_message
    assert [project.is_archived for project in _projects(studio)] == [False, False]
