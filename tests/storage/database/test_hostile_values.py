"""Values that a database could change are stored exactly, or refused with their name before anything is written."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from storage import Database, JobsRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.database.column_types import encode_json
from storage.errors import CorruptPayload, InvalidValue, StorageError
from storage.lifecycle.pinned_definition import PinnedDefinition
from storage.queue.bulk import JobFilter, cancel_jobs
from storage.queue.new_tasks import NewTask
from storage.records import Job
from task_definitions import PhotojobsError, Scope, load_definitions
from task_definitions.step_types import step_types

STORABLE = [
    'O\'Brien "quoted" -- ; DROP TABLE jobs; %s %(x)s :name ? {} \\ \n\t\r',
    "Ü 写真 🏔️ e\u0301",
    "\u202eright to left\u200b",
    " leading and trailing ",
    "null",
    "x" * 250,
]
REFUSED = ["nul\0inside", "lone \ud800 surrogate", "\udcff"]


@pytest.mark.parametrize("value", STORABLE)
def test_text_of_any_kind_comes_back_as_it_was_given(jobs: JobsRepository, value: str) -> None:
    # A tenant's id is the name of its folder.
    tenant = value.replace("\\", "")
    job = jobs.enqueue(tenant_id=tenant, type=value, unique_key=value, payload={value: [value, {"deep": value}]})
    assert (job.tenant_id, job.type, job.unique_key) == (tenant, value, value)
    assert job.payload == {value: [value, {"deep": value}]}
    assert jobs.get_by_id(job.id) == job
    assert [found.id for found in jobs.list_by_tenant(tenant, type=value)] == [job.id]
    claimed = jobs.claim_next(value, tenant_id=tenant)
    assert claimed is not None
    assert claimed.worker_id == value
    with_item = jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"filename": value, "message": value}])
    assert isinstance(with_item, Job)
    (item,) = jobs.list_items(with_item.id)
    assert (item.filename, item.message) == (value, value)


@pytest.mark.parametrize("value", REFUSED)
@pytest.mark.parametrize("field", ["tenant_id", "type", "unique_key", "payload", "payload key", "filename", "message"])
def test_text_that_one_of_the_databases_cannot_store_is_refused_by_name(
    jobs: JobsRepository, database: Database, field: str, value: str
) -> None:
    with pytest.raises(InvalidValue) as refusal:
        _enqueue_with(jobs, field, value)
    assert field.split()[0] in str(refusal.value)
    str(refusal.value).encode()
    assert _count_jobs(database) == 0


def _enqueue_with(jobs: JobsRepository, field: str, value: str) -> object:
    arguments: dict[str, Any] = {"tenant_id": "t", "type": "x"}
    if field in ("filename", "message"):
        return jobs.enqueue_with_items(**arguments, items=[{"filename": "good"}, {"filename": "a", field: value}])
    payloads: dict[str, Any] = {"payload": {"deep": [{"deeper": value}]}, "payload key": {"deep": {value: 1}}}
    if field in payloads:
        return jobs.enqueue(**arguments, payload=payloads[field])
    return jobs.enqueue(**(arguments | {field: value}))


@pytest.mark.parametrize("value", REFUSED)
def test_an_error_message_is_kept_readable_whatever_it_holds(jobs: JobsRepository, value: str) -> None:
    job = jobs.enqueue(tenant_id="t", type="x")
    ended = jobs.fail(job.id, f"cannot read {value}")
    assert ended is not None
    assert ended.error_message is not None
    assert ended.error_message.startswith("cannot read ")


@pytest.mark.parametrize("value", [*REFUSED, pytest.param("x" * 2000, id="long")])
def test_the_reason_of_a_cancel_is_kept_as_that_of_a_failure_is(
    tasks: TasksRepository, make_task: Any, value: str
) -> None:
    canceled = tasks.cancel(make_task("library", scope="global").id, reason=f"no {value}")
    [job] = tasks.list_jobs(canceled.id)
    assert canceled.error_message == job.error_message
    assert canceled.error_message is not None
    assert canceled.error_message.startswith("no ")
    assert len(canceled.error_message) <= 1000


@pytest.mark.parametrize("value", REFUSED)
def test_a_worker_or_a_result_that_cannot_be_stored_is_an_error_of_ours(jobs: JobsRepository, value: str) -> None:
    job = jobs.enqueue(tenant_id="t", type="x")
    with pytest.raises(StorageError):
        jobs.claim_next(value)
    with pytest.raises(StorageError):
        jobs.complete(job.id, result={"name": value})
    with pytest.raises(StorageError):
        jobs.update_payload(job.id, {"name": value})
    assert jobs.get_by_id(job.id) == job


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_number_beyond_64_bits_is_refused_or_names_nothing(
    jobs: JobsRepository, database: Database, number: int
) -> None:
    for call in (
        lambda: jobs.enqueue(tenant_id="t", type="x", project_id=number),
        lambda: jobs.enqueue(tenant_id="t", type="x", priority=number),
        lambda: jobs.enqueue(tenant_id="t", type="x", max_attempts=number),
        lambda: jobs.enqueue(tenant_id="t", type="x", progress_total=number),
        lambda: jobs.enqueue_with_items(tenant_id="t", type="x", items=[{"photo_id": number}]),
        lambda: jobs.list_by_tenant("t", limit=number),
        lambda: jobs.list_by_tenant("t", offset=number),
    ):
        with pytest.raises(PhotojobsError):
            call()
    for look in (
        lambda: jobs.get_by_id(number),
        lambda: jobs.complete(number),
        lambda: jobs.cancel(number),
        lambda: jobs.requeue(number),
        lambda: jobs.heartbeat(number),
        lambda: jobs.list_items(number),
        lambda: jobs.list_by_project(number),
    ):
        # The error depends on the database: one finds no such row, the other cannot search for this value.
        with suppress(InvalidValue):
            assert not look()
    assert _count_jobs(database) == 0


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**40, 1e15, 5e-324, 0.1, -0.0])
def test_numbers_in_a_payload_keep_their_value(jobs: JobsRepository, number: float) -> None:
    assert jobs.enqueue(tenant_id="t", type="x", payload={"number": number}).payload == {"number": number}


@pytest.mark.parametrize(
    "payload",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": {1, 2}},
        {"a": b"bytes"},
        {"a": datetime(2025, 1, 1, tzinfo=UTC)},
        {1: "a"},
        ["a"],
        "text",
        7,
    ],
)
def test_a_payload_that_is_not_json_is_refused_by_name(jobs: JobsRepository, database: Database, payload: Any) -> None:
    with pytest.raises(InvalidValue, match="payload"):
        jobs.enqueue(tenant_id="t", type="x", payload=payload)
    assert _count_jobs(database) == 0


def test_a_payload_nested_too_deeply_is_refused_by_name(jobs: JobsRepository, database: Database) -> None:
    payload: dict[str, Any] = {}
    for _ in range(100_000):
        payload = {"a": payload}
    with pytest.raises(InvalidValue, match="payload"):
        jobs.enqueue(tenant_id="t", type="x", payload=payload)
    assert _count_jobs(database) == 0


def test_a_payload_of_a_mebibyte_comes_back_whole(jobs: JobsRepository) -> None:
    payload = {"text": "ü" * ((1024 * 1024 - 23) // 2), "list": [1, 2]}
    assert 0 <= 1024 * 1024 - len(encode_json(payload).encode()) < 2
    job = jobs.enqueue(tenant_id="t", type="x", payload=payload)
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    assert claimed.id == job.id
    assert claimed.payload == payload


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2025, 3, 30, 2, 30, tzinfo=timezone(timedelta(hours=-7))),
        datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ],
)
def test_a_moment_of_any_year_comes_back_to_the_millisecond(jobs: JobsRepository, moment: datetime) -> None:
    job = jobs.enqueue(tenant_id="t", type="x", run_after=moment)
    found = jobs.get_by_id(job.id)
    assert found is not None
    assert found.run_after == moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert found.run_after.tzinfo is UTC


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2025, 1, 1),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
        "2025-01-01T00:00:00Z",
        1_700_000_000,
    ],
)
def test_a_moment_that_is_none_in_utc_is_refused_by_name(jobs: JobsRepository, database: Database, moment: Any) -> None:
    with pytest.raises(InvalidValue, match="run_after"):
        jobs.enqueue(tenant_id="t", type="x", run_after=moment)
    with pytest.raises(InvalidValue, match="run_after"):
        jobs.retry_later(1, "no", run_after=moment)
    assert _count_jobs(database) == 0


@pytest.mark.parametrize("field", ["tenant_id", "type", "unique_key"])
@pytest.mark.parametrize("value", ["", 7, None, b"bytes", "x" * 100_000])
def test_a_name_that_is_none_is_refused_by_name(
    jobs: JobsRepository, database: Database, field: str, value: Any
) -> None:
    if field == "unique_key" and value is None:
        return
    with pytest.raises(InvalidValue, match=field):
        jobs.enqueue(**({"tenant_id": "t", "type": "x"} | {field: value}))
    assert _count_jobs(database) == 0


def test_rows_that_other_programs_wrote_stay_readable(database: Database, jobs: JobsRepository) -> None:
    if database.is_postgresql:
        row = "('t', 'x', 'queued', '2025-10-01 12:00:00+02', '{\"a\": 1}', 'photo_set', 5)"
    else:
        row = "('t', 'x', 'queued', '2025-10-01 10:00:00', '{\"a\": 1}', 'photo_set', 5)"
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO jobs (tenant_id, type, status, created_at, payload_json, scope, priority) VALUES "
                + row.replace(":", "\\:")
            )
        )
    claimed = jobs.claim_next("worker")
    assert claimed is not None
    assert (claimed.created_at, claimed.payload) == (datetime(2025, 10, 1, 10, tzinfo=UTC), {"a": 1})


def test_rows_with_ids_below_1_are_found_as_others_are(
    database: Database, jobs: JobsRepository, make_project: Any, make_photos: Any
) -> None:
    project = make_project()
    ids = [-3, 0, *make_photos(project, 1)]
    PhotosRepository(database).create_many([{"id": one, "project_id": project.id, "filename": "a"} for one in ids[:2]])
    jobs.enqueue(tenant_id="t", type="x")
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET id = -7"))
    assert [photo.id for photo in PhotosRepository(database).iterate_project(project.id, batch_size=1)] == ids
    assert cancel_jobs(database, JobFilter(tenant_id="t")) == 1


def test_a_payload_that_another_program_garbled_is_told_by_its_job(sqlite_database: Database) -> None:
    jobs = JobsRepository(sqlite_database)
    job = jobs.enqueue(tenant_id="t", type="x")
    for garbled in ("{not json", "[1, 2]", '"text"'):
        with sqlite_database.begin() as connection:
            connection.execute(text("UPDATE jobs SET payload_json = :garbled"), {"garbled": garbled})
        found = jobs.get_by_id(job.id)
        assert found is not None
        with pytest.raises(StorageError, match=f"job {job.id}"):
            _ = found.payload
        assert jobs.list_by_tenant("t") == [found]


def test_projects_and_photos_keep_hostile_names(database: Database, make_project: Any, make_photos: Any) -> None:
    for name in STORABLE:
        project = make_project(name)
        (photo_id,) = make_photos(project, 1, filename=name)
        photo = PhotosRepository(database).get_by_id(photo_id)
        assert photo is not None
        assert photo.filename == name
        assert project.project_name == name
        assert ProjectsRepository(database).get_by_folder(project.project_folder) == project
    with pytest.raises(InvalidValue):
        ProjectsRepository(database).create(project_name="a\0b", project_folder="c")


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    # `jsonb` returns a larger float as a whole number with all digits, which no float equals exactly.
    | st.floats(-1e15, 1e15)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(payload=st.dictionaries(TEXT, JSON, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_object_comes_back_as_it_was_given(jobs: JobsRepository, payload: dict[str, Any]) -> None:
    assert jobs.enqueue(tenant_id="t", type="x", payload=payload).payload == payload


def _count_jobs(database: Database) -> int:
    with database.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM jobs")).scalar_one())


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({"a": "x" * (1024 * 1024)}, "has 1,048,584 bytes as JSON; at most 1,048,576 are allowed"),
        ({"a": "ü" * (600 * 1024)}, "bytes as JSON"),
        ({"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}, "more than 32 levels"),
    ],
    ids=["a MiB", "a MiB in UTF-8", "33 levels"],
)
def test_a_payload_beyond_the_bounds_is_refused_at_every_door(
    database: Database, jobs: JobsRepository, payload: dict[str, Any], problem: str
) -> None:
    job = jobs.enqueue(tenant_id="t", type="x")
    definition = load_definitions()["maintenance_global"]
    new = NewTask(
        id="a",
        tenant_id="t",
        definition=PinnedDefinition.pin(definition, step_types()),
        scope=Scope.GLOBAL,
        payload=payload,
    )
    for door in (
        lambda: jobs.enqueue(tenant_id="t", type="x", payload=payload),
        lambda: jobs.enqueue_with_items(tenant_id="t", type="x", items=[], payload=payload),
        lambda: jobs.enqueue_many([{"tenant_id": "t", "type": "x", "payload": payload}]),
        lambda: jobs.update_payload(job.id, payload),
        lambda: TasksRepository(database).start(new),
    ):
        with pytest.raises(InvalidValue, match=problem):
            door()
    assert _count_jobs(database) == 1
    assert TasksRepository(database).list_newest() == []


@pytest.mark.parametrize("stored", ["[" * 100 + "]" * 100, '{"n": ' + "9" * 5000 + "}"], ids=["deep", "digits"])
def test_a_row_of_another_program_that_cannot_be_read_costs_only_itself(
    database: Database, jobs: JobsRepository, stored: str
) -> None:
    job = jobs.enqueue(tenant_id="t", type="x")
    cast = "CAST(:stored AS jsonb)" if database.is_postgresql else ":stored"
    with database.begin() as connection:
        connection.execute(text(f"UPDATE jobs SET payload_json = {cast}"), {"stored": stored})
    found = jobs.get_by_id(job.id)
    assert found is not None
    assert found.status == "queued"
    with pytest.raises(CorruptPayload, match=f"job {job.id}: payload_json is not a JSON object"):
        _ = found.payload
