"""Commands list rows of the tables, for people and for programs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from storage import Database, JobsRepository, LanesRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.queue.holds import HoldsRepository

Command = Callable[..., Any]


@pytest.fixture
def iceland(place_database: Database) -> int:
    """Create a project with three photos, one of which has failed; return its id."""
    project = ProjectsRepository(place_database).create(project_name="Iceland", project_folder="Iceland")
    PhotosRepository(place_database).create_many(
        [
            {
                "project_id": project.id,
                "filename": "good",
                "thumbnail_status": "generated",
                "preview_status": "generated",
            },
            {"project_id": project.id, "filename": "bad", "thumbnail_status": "failed", "preview_status": "failed"},
            {"project_id": project.id, "filename": "new", "thumbnail_status": None, "preview_status": None},
        ]
    )
    return project.id


def test_projects_are_listed_with_what_their_photos_lack(command: Command, iceland: int) -> None:
    shown, document = command("library", "list"), command("library", "list", "--json").document

    assert shown.out.splitlines()[1].split() == [str(iceland), "user_0", "Iceland", "Iceland", "3", "1", "1"]
    assert document[0]["project"]["project_name"] == "Iceland"
    assert (document[0]["photos"], document[0]["without_derivatives"], document[0]["failed"]) == (3, 1, 1)


def test_projects_of_two_tenants_have_folders_of_one_name(command: Command, iceland: int, place: Any) -> None:
    (place.library / "user_0" / "Iceland").mkdir(parents=True)
    added = command("library", "add-project", "Iceland", "--tenant", "ben", "--json").document
    found = command("library", "list", "--json").document
    assert [(one["project"]["tenant_id"], one["project"]["project_folder"], one["photos"]) for one in found] == [
        (None, "Iceland", 3),
        ("ben", "Iceland", 0),
    ]
    assert added["project"]["id"] == found[1]["project"]["id"]
    again = command("library", "add-project", "Iceland", "--tenant", "ben")
    assert again.code == 2
    assert '"Iceland" is the folder of another project' in again.err


def test_jobs_are_filtered_by_every_column_that_a_user_may_name(command: Command, place_database: Database) -> None:
    projects, jobs = ProjectsRepository(place_database), JobsRepository(place_database)
    alps, norway, of_ben = (
        projects.create(project_name=name, project_folder=name, tenant_id=tenant).id
        for name, tenant in (("Alps", "anna"), ("Norway", "anna"), ("Peru", "ben"))
    )
    wanted = jobs.enqueue(tenant_id="anna", type="metadata", project_id=alps)
    jobs.enqueue(tenant_id="anna", type="metadata", project_id=norway)
    jobs.enqueue(tenant_id="anna", type="folder_check", project_id=alps)
    jobs.complete(jobs.enqueue(tenant_id="anna", type="metadata", project_id=alps).id)
    other = jobs.enqueue(tenant_id="ben", type="metadata", project_id=of_ben)

    filters = {"--status": "queued", "--type": "metadata", "--tenant": "anna", "--project": alps}
    found = command("jobs", "list", *(word for option in filters.items() for word in option), "--json")

    assert [job["id"] for job in found.document] == [wanted.id]
    assert [job["id"] for job in command("jobs", "list", "--tenant", "ben", "--json").document] == [other.id]
    assert len(command("jobs", "list", "--json").document) == 5
    assert command("jobs", "list", "--limit", 1, "--offset", 1).out.splitlines()[1].split()[0] == "4"
    for line in ("jobs list --offset 5", "tasks list --offset 5", "jobs list --status failed"):
        assert "match these options" in command(*line.split()).err


def test_items_that_failed_are_shown_with_their_reasons(command: Command, place_database: Database) -> None:
    jobs = JobsRepository(place_database)
    job = jobs.enqueue_with_items(tenant_id="t", type="metadata", items=[{"filename": "one"}, {"filename": "two"}])
    first, _ = jobs.list_items(job.id)
    jobs.update_item_status(first.id, status="failed", message="the file is empty\nand more")

    shown = command("jobs", "items", job.id, "--status", "failed")

    assert len(shown.out.splitlines()) == 2
    assert "the file is empty\\nand more" in shown.out
    assert "1 failed" in command("jobs", "show", job.id).out


def test_a_lane_that_is_changed_says_so_and_stays_so(command: Command, place_database: Database) -> None:
    ran = command("lanes", "set", "normal", "--slots", 7, "--aging-seconds", 60, "--fair-tenants")

    assert ran.code == 0
    lane = LanesRepository(place_database).get("normal")
    assert (lane.slots, lane.aging_seconds, lane.fair_tenants) == (7, 60, 1)
    assert ran.out.splitlines()[1].split() == ["normal", "0", "to", "89", "7", "0", "0", "60", "s", "yes", "no"]
    assert command("lanes", "set", "normal", "--slots", 0, "--no-fair-tenants").code == 0
    assert LanesRepository(place_database).get("normal").slots is None


def test_a_started_task_is_seen_held_released_and_canceled(
    command: Command, place_database: Database, iceland: int
) -> None:
    started = command("start", "maintenance", "--project", iceland)
    task_id = started.out.strip()
    assert TasksRepository(place_database).get(task_id).type == "maintenance"
    short_id = task_id[:8]
    assert short_id in command("status").out
    assert task_id in command("definitions", "graph", "--task", short_id).out
    assert command("definitions", "diff", "--task", short_id).out == "no difference\n"

    assert command("hold", "task", task_id, "--reason", "wait for the backup").code == 0
    assert "wait for the backup" in command("status").out
    assert JobsRepository(place_database).claim_next("worker") is None
    assert command("release", "task", task_id).code == 0
    assert command("hold", "tenant", "user_0").err == ""
    assert command("release", "tenant", "user_0").code == 0
    assert HoldsRepository(place_database).list() == []
    assert 'Did you mean "user_0"?' in command("hold", "tenant", "user_1").complaints[0]

    assert command("cancel", task_id).code == 0
    assert TasksRepository(place_database).get(task_id).status == "canceled"
    assert command("cancel", task_id).code == 0

    assert (
        command("retry", task_id, "--from", "manifest_chek").complaints[0].count('Did you mean "manifest_check"') == 1
    )
    assert command("retry", task_id, "--from", "manifest_check").code == 0
    task = TasksRepository(place_database).get(task_id)
    assert (task.status, task.step_index) == ("queued", 1)


def test_a_task_is_named_by_the_beginning_of_its_id(command: Command, place_database: Database, iceland: int) -> None:
    task_id = command("start", "maintenance", "--project", "Iceland").out.strip()
    shown = command("tasks", "list").out.splitlines()[1].split()[0]

    assert (len(shown), task_id.startswith(shown)) == (8, True)
    assert command("tasks", "show", shown, "--json").document["task"]["id"] == task_id
    assert {job["task_id"] for job in command("jobs", "list", "--task", shown, "--json").document} == {task_id}
    assert command("hold", "task", shown).out.startswith(f"task {task_id} is held")
    assert command("release", "task", shown).code == command("cancel", shown).code == 0
    assert TasksRepository(place_database).get(task_id).status == "canceled"
    assert command("retry", shown).out.startswith(f"task {task_id} continues")
    assert command("tasks", "show", "zzz").code == 2


def test_photos_to_start_with_may_come_by_id_by_file_or_by_what_is_known_of_them(
    command: Command, place_database: Database, place: Any, iceland: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Programs of Windows write a byte order mark, also into a pipe.
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf3\r\n"), encoding="utf-8"))
    (place.folder / "items.txt").write_text("1  # the good one\n\n3\n")
    (place.folder / "items.json").write_text(json.dumps([1, {"photo_id": 2}]))

    def names(*options: object) -> list[str | None]:
        task_id = command("start", "generate_derivatives", *options).out.strip()
        job, *_ = TasksRepository(place_database).list_jobs(task_id)
        return [item.filename for item in JobsRepository(place_database).list_items(job.id)]

    assert names("--item", 1, 2) == ["good", "bad"]
    assert names("--items-file", "items.txt") == ["good", "new"]
    assert names("--items-file", "-") == ["new"]
    assert names("--items-file", "items.json") == ["good", "bad"]
    assert names("--all") == names("--project", iceland, "--all") == ["good", "bad", "new"]
    assert names("--missing", "thumbnail") == ["bad", "new"]
    assert names("--failed-only") == ["bad"]
    assert names("--all", "--project", "Iceland") == names("--in-project", "Iceland") == ["good", "bad", "new"]
    assert names("--all", "--in-project", iceland, "--missing", "preview") == ["bad", "new"]
    # A name in brackets is no JSON list.
    assert '"[1]"' in command("start", "generate_derivatives", "--in-project", "[1]").err


def test_a_new_project_has_a_row_a_folder_and_a_manifest(
    command: Command, place_database: Database, place: Any
) -> None:
    ran = command("library", "add-project", "Summer / 2025", "--tenant", "anna")

    (project,) = ProjectsRepository(place_database).list(tenant_id="anna")
    assert ran.code == 0
    assert project.project_name == "Summer / 2025"
    folder = place.library / "anna" / project.project_folder
    assert folder.parent == place.library / "anna"
    assert (folder / ".project.yaml").is_file()
    assert command("library", "add-project", "Summer / 2025", "--tenant", "anna").code == 2
    assert len(ProjectsRepository(place_database).list()) == 1


@pytest.mark.parametrize(
    ("tenant_id", "folder"), [("anna", "ignored"), ("user_0", "user_0")], ids=["of the library", "of a tenant"]
)
def test_no_project_is_added_on_the_mount_point_of_a_missing_disk(
    command: Command, place_database: Database, place: Any, tenant_id: str, folder: str
) -> None:
    projects = ProjectsRepository(place_database)
    for name in ("Alps", "Peru"):
        projects.create(project_name=name, project_folder=name, tenant_id=tenant_id)
    (place.library / folder).mkdir()
    before = place.files()

    ran = command("library", "add-project", "Summer", PHOTOJOBS_IGNORED_NAMES='["Ignored"]')

    assert (ran.code, len(ran.complaints)) == (2, 1)
    assert "is missing or empty" in ran.complaints[0]
    assert len(projects.list()) == 2
    assert place.files() == before


def test_definitions_and_steps_are_shown_as_text_and_as_json(command: Command, place: Any) -> None:
    file = place.folder / "own.yaml"
    file.write_text(
        "nightly:\n  label: Nightly\n  scope: global\n  steps:\n    - {type: manifest_check, priority: 95}\n"
    )

    assert "maintenance_global" in command("definitions", "list").out
    document = command("definitions", "show", "process_photos", "--json").document
    assert [step["type"] for step in document["steps"]] == ["metadata", "generate_derivatives"]
    assert "1 definition, no errors" in command("definitions", "lint", file).out
    assert command("definitions", "schema").document["title"] == "photojobs definitions"
    assert "manifest_check" in command("steps", "list").out
    assert command("steps", "show", "manifest_check", "--json").document["unit"] == "projects"


def test_why_a_job_waits_is_one_sentence_with_a_remedy_and_may_be_read_by_programs(
    command: Command, place_database: Database
) -> None:
    job = JobsRepository(place_database).enqueue(tenant_id="anna", type="metadata")
    HoldsRepository(place_database).hold("tenant", "anna", "she moves house")

    shown, document = command("jobs", "why", job.id), command("jobs", "why", job.id, "--json").document

    assert "she moves house" in shown.out.splitlines()[0]
    assert "photojobs release tenant anna" in shown.out.splitlines()[1]
    assert (document["verdict"]["name"], document["verdict"]["standing"]) == ("held", "blocked")
    assert {reason["name"] for reason in document["reasons"]} >= {"status", "slots", "executor", "handler", "scope"}


def test_a_job_of_an_unknown_type_is_known_before_anybody_claims_it(command: Command, place_database: Database) -> None:
    job = JobsRepository(place_database).enqueue(tenant_id="anna", type="metadta")

    assert command("jobs", "why", job.id, "--json").document["verdict"]["name"] == "handler"


def test_failed_jobs_are_queued_again_by_their_ids_and_others_are_refused(
    command: Command, place_database: Database
) -> None:
    jobs = JobsRepository(place_database)
    failed, queued = (jobs.enqueue(tenant_id="t", type="metadata") for _ in range(2))
    jobs.fail(failed.id, "no")

    assert command("jobs", "retry", failed.id, queued.id).code == 2
    assert jobs.get_by_id(failed.id).status == "failed"
    assert command("jobs", "retry", failed.id).code == 0
    assert jobs.get_by_id(failed.id).status == "queued"


def test_many_jobs_are_canceled_and_queued_again_by_what_they_have_in_common(
    command: Command, place_database: Database, iceland: int
) -> None:
    jobs = JobsRepository(place_database)
    here = [jobs.enqueue(tenant_id="user_0", type="metadata", project_id=iceland).id for _ in range(3)]
    other = jobs.enqueue(tenant_id="user_0", type="file_removal").id

    def statuses() -> dict[int, str]:
        return {job.id: job.status for job in jobs.list_by_tenant("user_0")}

    assert "3 jobs are canceled" in command("jobs", "cancel", "--type", "metadata").out
    assert statuses() == dict.fromkeys(here, "canceled") | {other: "queued"}
    assert command("jobs", "retry", "--project", "Iceland", "--json").document == {"queued": 3}
    assert statuses() == dict.fromkeys([*here, other], "queued")
    assert "1 job is canceled" in command("jobs", "cancel", other).out
    assert command("jobs", "cancel", "--status", "running").out == "No jobs match these options.\n"
    assert "only a job that is queued or running can be canceled" in command("jobs", "cancel", other).complaints[0]
    assert "no project of tenant user_0" in command("jobs", "cancel", "--project", "Icland").complaints[0]
    assert [job["id"] for job in command("jobs", "list", "--project", "Iceland", "--json").document] == here[::-1]
