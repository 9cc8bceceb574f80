"""The step verify_originals finds corrupt files, does not report edited files, and changes no file."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from sqlalchemy import select, update

from flows.steps.images import verify_originals
from flows.testing import run_queued_job
from storage import JobsRepository
from storage.database.tables import photo_derivatives, photo_originals
from storage.photos.originals import Original, OriginalsRepository
from storage.photos.verification import VerificationRepository


def verify(studio: Any, **payload: Any) -> Any:
    return studio.run("verify_originals", scope="global", payload=payload or None)


def known(studio: Any, photo_id: int, name: str) -> Original:
    found: Original = OriginalsRepository(studio.database).get_many([photo_id])[photo_id][name]
    return found


def write_behind(path: Path, contents: bytes) -> None:
    """Change the contents of a file as a faulty disk does, but not its size or times."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(contents)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def rot(studio: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, bytes], None]:
    """A function that changes the contents of a file, but not its size or its times, including the change time."""

    def change(path: Path, contents: bytes) -> None:
        assert len(contents) == path.stat().st_size
        before = path.stat().st_ctime_ns
        write_behind(path, contents)
        after = path.stat().st_ctime_ns
        # No system call sets the change time, so the test writes the current one to the row.
        with studio.database.begin() as connection:
            connection.execute(
                update(photo_originals).where(photo_originals.c.ctime_ns == before).values(ctime_ns=after)
            )

    return change


@pytest.fixture
def iceland(studio: Any) -> Any:
    project = studio.project("Iceland")
    studio.write_manifest(project)
    return project


def test_each_original_is_hashed_at_first_and_verified_later(studio: Any, iceland: Any, clock: Any) -> None:
    photo_id = studio.photo(iceland, "fox", "jpg", "NEF", "xmp")
    first_at = studio.database.clock()
    job = verify(studio)
    assert (job.status, job.result["counts"]) == ("completed", {"hashed for the first time": 2})
    for extension in ("jpg", "NEF"):
        original = known(studio, photo_id, f"fox.{extension}")
        contents = (studio.folder(iceland).path / f"fox.{extension}").read_bytes()
        assert original.content_hash == "blake3:" + blake3(contents).hexdigest()
        assert (original.hashed_at, original.verified_at) == (first_at, first_at)
    clock.advance(seconds=60)
    before = studio.disk()
    assert verify(studio).result["counts"] == {"verified": 2}
    assert studio.disk() == before
    original = known(studio, photo_id, "fox.NEF")
    assert (original.hashed_at, original.verified_at) == (first_at, first_at + timedelta(seconds=60))


def test_a_file_whose_name_differs_in_spelling_from_its_photo_is_verified(studio: Any, iceland: Any) -> None:
    photo_id = studio.photo(iceland, "fox", "jpg")
    (studio.folder(iceland).path / "FOX.NEF").write_bytes(b"raw")
    assert verify(studio).result["counts"] == {"hashed for the first time": 2}
    assert known(studio, photo_id, "FOX.NEF").content_hash == "blake3:" + blake3(b"raw").hexdigest()


def test_other_contents_of_the_same_size_and_times_are_corruption_until_the_file_is_right_again(
    studio: Any, iceland: Any, clock: Any, rot: Any
) -> None:
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": b"right"})
    studio.photo(iceland, "owl", "jpg")
    verify(studio)
    right_at = studio.database.clock()
    path = studio.folder(iceland).path / "fox.jpg"
    rot(path, b"wrong")
    for _ in range(2):
        clock.advance(seconds=60)
        job = verify(studio)
        assert (job.status, job.attempts) == ("failed", 0)
        assert "Iceland/fox.jpg is corrupt" in job.error_message
        assert f"last intact on {right_at:%Y-%m-%d at %H:%M} UTC" in job.error_message
        assert job.error_message.endswith("`photojobs library verify` lists all corrupt originals.")
        assert job.result["counts"] == {"corrupt": 1, "failed": 1, "verified": 1}
    original = known(studio, photo_id, "fox.jpg")
    assert original.content_hash == "blake3:" + blake3(b"right").hexdigest()
    assert original.corrupt_hash == "blake3:" + blake3(b"wrong").hexdigest()
    assert (original.verified_at, original.corrupt_since) == (right_at, right_at + timedelta(seconds=60))
    [corrupt] = VerificationRepository(studio.database).corrupt()
    assert (corrupt.path, corrupt.verified_at) == ("Iceland/fox.jpg", right_at)
    assert path.read_bytes() == b"wrong"

    # After a touch or a move, the file is still corrupt for every step.
    os.utime(path, ns=(1, 1))
    studio.run("derivative_validation", project_id=iceland.id)
    assert known(studio, photo_id, "fox.jpg").corrupt_since == original.corrupt_since
    clock.advance(seconds=60)
    assert verify(studio).status == "failed"

    path.write_bytes(b"right")
    clock.advance(seconds=60)
    job = verify(studio)
    assert (job.status, job.result["counts"]) == ("completed", {"intact again": 1, "verified": 1})
    assert VerificationRepository(studio.database).corrupt() == []
    assert known(studio, photo_id, "fox.jpg").verified_at == studio.database.clock()


def test_a_file_that_was_restored_is_right_again_for_every_step(
    studio: Any, iceland: Any, clock: Any, rot: Any
) -> None:
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": b"right"})
    verify(studio)
    path = studio.folder(iceland).path / "fox.jpg"
    rot(path, b"wrong")
    clock.advance(seconds=60)
    verify(studio)
    write_behind(path, b"right")
    studio.run("derivative_validation", project_id=iceland.id)
    assert known(studio, photo_id, "fox.jpg").corrupt_since is None


@pytest.mark.parametrize("is_hashed", [True, False])
def test_an_edit_is_taken_up_and_no_corruption(studio: Any, iceland: Any, clock: Any, is_hashed: bool) -> None:
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": b"right"}, derivatives=True)
    studio.run("verify_originals" if is_hashed else "derivative_validation", scope="global")
    (studio.folder(iceland).path / "fox.jpg").write_bytes(b"edited")
    clock.advance(seconds=60)
    job = verify(studio)
    assert job.status == "completed"
    assert job.result["counts"] == {"edited" if is_hashed else "hashed for the first time": 1}
    original = known(studio, photo_id, "fox.jpg")
    assert original.content_hash == "blake3:" + blake3(b"edited").hexdigest()
    assert (original.hashed_at, original.verified_at) == (studio.database.clock(), studio.database.clock())
    # Derivatives that another program made from the earlier contents are made again.
    studio.run("derivative_validation", project_id=iceland.id)
    assert studio.get_photo(photo_id).thumbnail_status == "missing"


def test_a_hash_of_an_earlier_version_is_compared_and_renewed_with_what_was_made_of_it(
    studio: Any, iceland: Any, clock: Any, jpeg: Any
) -> None:
    contents = jpeg()
    photo_id = studio.photo(iceland, "fox", "jpg", contents={"jpg": contents})
    studio.run("generate_derivatives", scope="photo_set", items=[{"photo_id": photo_id}])
    old = "blake2b-128:" + hashlib.blake2b(contents, digest_size=16).hexdigest()
    with studio.database.begin() as connection:
        connection.execute(update(photo_originals).values(content_hash=old))
        connection.execute(update(photo_derivatives).values(source_hash=old))
    clock.advance(seconds=60)
    assert verify(studio).result["counts"] == {"verified": 1}
    new = "blake3:" + blake3(contents).hexdigest()
    assert known(studio, photo_id, "fox.jpg").content_hash == new
    with studio.database.connect() as connection:
        assert set(connection.execute(select(photo_derivatives.c.source_hash)).scalars()) == {new}


def test_runs_within_a_budget_come_to_every_file_the_one_longest_ago_first(
    studio: Any, iceland: Any, clock: Any
) -> None:
    photos = [(studio.photo(iceland, name, "jpg", contents={"jpg": 10 * b"x"}), f"{name}.jpg") for name in "abcd"]
    moments: list[list[datetime | None]] = []
    for _ in range(4):
        clock.advance(seconds=60)
        verify(studio, bytes_per_run=25)
        moments.append([known(studio, *photo).checked_at for photo in photos])
    first, second, third, fourth = (max(filter(None, run)) for run in moments)
    assert first < second < third < fourth
    assert moments == [
        [first, first, None, None],
        [first, first, second, second],
        [third, third, second, second],
        [third, third, fourth, fourth],
    ]


def test_a_file_that_was_verified_before_the_clock_was_set_back_is_verified_again(
    studio: Any, iceland: Any, clock: Any
) -> None:
    photo_id = studio.photo(iceland, "fox", "jpg")
    now = clock()
    clock.set(now + timedelta(days=3650))
    verify(studio)
    clock.set(now)
    assert verify(studio, bytes_per_run=1).result["counts"] == {"verified": 1}
    assert known(studio, photo_id, "fox.jpg").checked_at == now
    assert verify(studio).result.get("counts", {}) == {}


def test_a_file_that_is_larger_than_the_budget_has_a_run_of_its_own(studio: Any, iceland: Any, clock: Any) -> None:
    photo_id = studio.photo(iceland, "a", "jpg", contents={"jpg": 100 * b"a"})
    other = studio.photo(iceland, "b", "jpg", contents={"jpg": b"b"})
    verify(studio, bytes_per_run=10)
    assert known(studio, photo_id, "a.jpg").checked_at is not None
    assert known(studio, other, "b.jpg").checked_at is None


def test_what_cannot_be_verified_is_named_and_costs_itself(
    studio: Any, iceland: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, gone = studio.project("Away"), studio.project("Gone")
    names = ["bad", "good", "missing"]
    ids = {name: studio.photo(iceland, name, "jpg", contents={"jpg": name.encode()}) for name in names}
    for project in (away, gone):
        studio.photo(project, "far", "jpg")
    verify(studio)
    folder = studio.folder(iceland).path
    (folder / "missing.jpg").unlink()
    (studio.folder(away).path / "far.jpg").rename(studio.root / "far.jpg")
    studio.folder(gone).path.rename(studio.root / "elsewhere")
    read = studio.runtime.images.read_source

    def fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "bad.jpg":
            raise OSError(5, "Input/output error")
        return read(path, *arguments, **options)

    monkeypatch.setattr(studio.runtime.images, "read_source", fail)
    clock.advance(seconds=60)
    before = {name: known(studio, ids[name], f"{name}.jpg") for name in names}
    job = verify(studio)
    assert job.status == "failed"
    assert job.error_message == "Iceland/bad.jpg cannot be verified: [Errno 5] Input/output error."
    assert "Iceland/bad.jpg: cannot be verified: [Errno 5] Input/output error." in job.result["examples"]["failed"]
    counts = job.result["counts"]
    assert (counts["verified"], counts["unreadable"], counts["missing"], counts["skipped"]) == (1, 1, 1, 1)
    assert job.result["examples"]["missing"] == ["Iceland/missing.jpg"]
    assert "folder Gone is missing" in job.result["examples"]["skipped"][0]
    assert set(job.result["errors"]) == {"Away", "Iceland/bad.jpg"}
    assert known(studio, ids["missing"], "missing.jpg") == before["missing"]
    bad = known(studio, ids["bad"], "bad.jpg")
    assert (bad.verified_at, bad.checked_at) == (before["bad"].verified_at, studio.database.clock())


def test_a_project_that_goes_meanwhile_is_one_failure(
    studio: Any, iceland: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        studio.photo(iceland, name, "jpg")
    folder = studio.folder(iceland).path
    begin = verify_originals._take_up_unknown

    def unmount(ctx: Any) -> set[int]:
        available = begin(ctx)
        folder.rename(studio.root / "elsewhere")
        folder.mkdir()
        return available

    monkeypatch.setattr(verify_originals, "_take_up_unknown", unmount)
    job = verify(studio)
    assert job.status == "failed"
    assert "Iceland" in job.result["errors"]
    assert "missing" not in job.result["counts"]


def test_after_a_death_the_rest_of_the_budget_is_read_and_nothing_twice(
    studio: Any, iceland: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        studio.photo(iceland, f"{number}", "jpg", contents={"jpg": 10 * b"x"})
    verify(studio)
    clock.advance(seconds=60)
    began_at = studio.database.clock()

    def since(moment: datetime) -> set[str]:
        statement = select(photo_originals.c.name).where(photo_originals.c.checked_at >= moment)
        with studio.database.connect() as connection:
            return set(connection.execute(statement).scalars())

    in_one_thread = {"megabytes_per_second": 1000}
    job = JobsRepository(studio.database).enqueue(
        tenant_id="tenant", type="verify_originals", scope="global", payload={"bytes_per_run": 40} | in_one_thread
    )
    read: list[str] = []
    read_source = studio.runtime.images.read_source
    monkeypatch.setattr(verify_originals, "BATCH_SIZE", 1)

    written = threading.Event()
    write = verify_originals._Verification._write

    class Death(BaseException):
        pass

    def write_and_say(self: Any) -> None:
        has_found = bool(self._found)
        write(self)
        if has_found:
            written.set()

    def die(path: Path, *arguments: Any, **options: Any) -> Any:
        if len(read) == 2:
            assert written.wait(60)
            raise Death
        read.append(path.name)
        return read_source(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(studio.runtime.images, "read_source", die)
        patch.setattr(verify_originals._Verification, "_write", write_and_say)
        with pytest.raises(Death):
            run_queued_job(studio.runtime, job.id)
    verified = since(began_at)
    assert 1 <= len(verified) <= 2
    clock.advance(seconds=600)
    JobsRepository(studio.database).requeue_stale_running(stale_seconds=60)
    read.clear()

    def look(path: Path, *arguments: Any, **options: Any) -> Any:
        read.append(path.name)
        return read_source(path, *arguments, **options)

    monkeypatch.setattr(studio.runtime.images, "read_source", look)
    assert run_queued_job(studio.runtime, job.id).status == "completed"
    assert len(since(began_at)) == 4
    assert since(began_at) == verified | set(read)
    assert not verified & set(read)


def test_a_cancelled_job_stops_in_the_midst_of_a_file(
    studio: Any, iceland: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_id = studio.photo(iceland, "large", "jpg", contents={"jpg": 2_000_000 * b"x"})
    jobs = JobsRepository(studio.database)
    read = verify_originals._Pace.read

    def cancel(self: Any, size_bytes: int) -> None:
        jobs.cancel(self._ctx.job.id)
        self._ctx.claim.lost.set()
        read(self, size_bytes)

    monkeypatch.setattr(verify_originals._Pace, "read", cancel)
    job = verify(studio, megabytes_per_second=0.001)
    assert job.status == "canceled"
    assert known(studio, photo_id, "large.jpg").checked_at is None


def test_reading_keeps_to_the_limit(studio: Any, iceland: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        studio.photo(iceland, f"{number}", "jpg", contents={"jpg": 100_000 * b"x"})
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> bool:
        slept.append(seconds)
        now[0] += seconds
        return False

    original = verify_originals._Pace.read

    def read(self: Any, size_bytes: int) -> None:
        monkeypatch.setattr(self._ctx.claim.lost, "wait", sleep)
        original(self, size_bytes)

    monkeypatch.setattr(verify_originals._Pace, "read", read)
    monkeypatch.setattr(verify_originals, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert verify(studio, megabytes_per_second=0.1).status == "completed"
    assert sum(slept) == pytest.approx(4.0)


@pytest.mark.parametrize("payload", [{"bytes_per_run": -1}, {"megabytes_per_second": "fast"}, {"bytes_per_run": True}])
def test_a_limit_that_is_none_is_refused_by_name(studio: Any, payload: dict[str, Any]) -> None:
    studio.project("Iceland")
    job = verify(studio, **payload)
    assert job.status == "failed"
    assert next(iter(payload)) in job.error_message
