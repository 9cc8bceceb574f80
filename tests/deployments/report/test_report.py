"""A report is one correct page about a task; it loads nothing from the network, and shows names as text."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
import pyvips

from deployments.report import contact_sheet as sheet
from deployments.report.page import render_report
from deployments.report.task_report import TaskReport, read_report
from deployments.report.throughput import PARTS, throughput_of
from flows.api.start import start_task
from flows.execution.worker import drain_queue
from flows.process.runtime import Runtime
from storage import Database, PhotosRepository, ProjectsRepository, TasksRepository
from storage.errors import UnknownTask
from storage.reports.task_history import JobSpan
from storage.settings import Settings
from task_definitions.wording import size_in_words
from tests.conftest import START

# One process runs these tests, because most of them use the same task.
pytestmark = pytest.mark.xdist_group("report")

HOSTILE = "<script>alert('1')</script>&\"onerror=x"


class Page(HTMLParser):
    """The tags, texts and addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def runtime(place: Any, place_database: Database) -> Any:
    settings = Settings.load(
        library_root=place.library, database_url=place.environment["PHOTOJOBS_DATABASE_URL"], image_isolation=False
    )
    with Runtime(place_database, settings=settings) as opened, opened.as_current():
        yield opened


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The runtime that all tests of this file share."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "library").mkdir()
    settings = Settings.load(library_root=folder / "library", image_isolation=False, settle_seconds=0)
    database = Database(folder / "photojobs.db")
    database.migrate()
    with Runtime(database, settings=settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def task_id(studio: Runtime) -> str:
    """A task that made thumbnails of two photos and failed on one; the names of all photos contain markup."""
    folder = studio.library.root / "user_0" / "Iceland"
    folder.mkdir(parents=True)
    names = [f"{HOSTILE.replace('/', '_')} {number}" for number in range(3)]
    for name in names[:2]:
        image: Any = pyvips.Image.gaussnoise(90, 70, mean=128, sigma=40).cast("uchar")
        image.jpegsave(str(folder / "photo.jpg"))
        (folder / "photo.jpg").rename(folder / f"{name}.jpg")
    (folder / f"{names[2]}.jpg").write_bytes(b"no picture")
    project = ProjectsRepository(studio.database).create(project_name=HOSTILE, project_folder="Iceland")
    ids = PhotosRepository(studio.database).create_many(
        {"project_id": project.id, "filename": name, "jpg_available": 1} for name in names
    )
    with studio.as_current():
        items = [{"photo_id": photo_id} for photo_id in ids]
        started = start_task(type="generate_derivatives", tenant_id="user_0", items=items)
        drain_queue(runtime=studio)
    return started.task_id


@pytest.fixture(scope="module")
def report(studio: Runtime, task_id: str) -> TaskReport:
    return read_report(studio.database, studio.library, task_id)


@pytest.fixture(scope="module")
def text(report: TaskReport) -> str:
    """Return the page of the report."""
    return render_report(report)


def test_it_tells_what_became_of_the_task_and_of_the_library(report: TaskReport, text: str) -> None:
    page = Page(text)

    assert "failed : 1 job failed" in page.text
    assert (report.library.before.thumbnails, report.library.after.thumbnails) == (0, 2)
    assert re.search(r"thumbnails 0 2 \+2", page.text)
    assert "failed: 1, previews made: 2, thumbnails made: 2" in page.text
    assert "1 photo generate_derivatives" in page.text
    assert "it is not an image of an accepted format" in page.text
    assert [frame.picture is not None for frame in report.frames] == [True, True, False]
    assert {"Jobs over time", "Throughput", "Waits and run times", "Failures by reason"} <= set(page.texts)


def test_a_job_that_failed_without_a_photo_does_not_count_as_a_photo(report: TaskReport) -> None:
    (step,) = report.summary.steps
    summary = replace(report.summary, steps=[replace(step, items={}, jobs={"failed": 1})])

    page = Page(render_report(replace(report, summary=summary, spans=(), times=())))

    assert "1 job" in page.texts


def test_it_asks_nothing_of_the_network_and_runs_no_script(text: str) -> None:
    page = Page(text)

    assert "default-src 'none'" in text
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert page.handlers == []
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in page.addresses)
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(text) < 300_000


def test_no_name_is_read_as_markup_in_texts_in_pictures_or_in_attributes(text: str) -> None:
    assert text.count("<script") == 0
    assert HOSTILE in Page(text).text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_every_picture_has_words_and_ids_of_its_own(text: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', text)

    assert len(ids) == len(set(ids))
    assert re.findall(r'role="img" aria-labelledby="([\w-]+) ([\w-]+)"', text) == [
        (f"{name}-title", f"{name}-description") for name in ("timeline", "throughput", "waits")
    ]
    assert set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'xlink:href="#([^"]+)"', text)) <= set(ids)
    assert len(re.findall(r'<img [^>]*alt="[^"]+"', text)) == 2


def test_the_contact_sheet_is_bounded_in_number_and_in_size(
    studio: Runtime, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = read_report(studio.database, studio.library, task_id, photos=1)
    assert (len(few.frames), few.changed) == (1, 3)
    picture = base64.b64decode(few.frames[0].picture.removeprefix("data:image/webp;base64,"))
    assert picture[8:12] == b"WEBP"
    assert len(picture) <= sheet.MAX_PICTURE_BYTES

    monkeypatch.setattr(sheet, "MAX_SHEET_BYTES", len(picture) + 1)
    frames = read_report(studio.database, studio.library, task_id).frames
    assert [frame.picture is not None for frame in frames] == [True, False, False]


def test_a_task_that_nobody_has_taken_up_has_a_page_as_well(runtime: Runtime) -> None:
    started = start_task(type="maintenance_global", tenant_id="user_0")

    page = Page(render_report(read_report(runtime.database, runtime.library, started.task_id)))

    assert "No figures were recorded before this task began." in page.text
    assert "No photo and no job failed." in page.text
    with pytest.raises(UnknownTask):
        read_report(runtime.database, runtime.library, "nothing such")


def test_a_task_that_never_started_has_no_begin_and_changed_no_photo(
    command: Callable[..., Any], runtime: Runtime
) -> None:
    started = start_task(type="folder_discovery", tenant_id="user_0")
    project = ProjectsRepository(runtime.database).create(project_name="Iceland", project_folder="Iceland")
    PhotosRepository(runtime.database).create_many([{"project_id": project.id, "filename": "fox"}])
    TasksRepository(runtime.database).cancel(started.task_id)

    report = read_report(runtime.database, runtime.library, started.task_id)
    page = Page(render_report(report))

    assert (report.begin, report.changed) == (None, 0)
    assert {"created", "began", "took", "has taken"} & set(page.texts) == {"created"}
    assert f"{report.summary.task.created_at:%H:%M:%S}" in page.texts
    assert command("report", "--json").document["began_at"] is None


def test_the_command_writes_the_page_of_the_newest_task_and_numbers_for_programs(
    command: Callable[..., Any], runtime: Runtime, place: Any
) -> None:
    task_id = start_task(type="maintenance_global", tenant_id="user_0").task_id

    ran = command("report")

    assert (ran.code, ran.out) == (0, f"report-{task_id}.html\n")
    assert task_id in (place.folder / f"report-{task_id}.html").read_text()
    document = command("report", task_id, "--json").document
    assert (document["task_id"], document["library"]["before"]) == (task_id, None)
    assert command("report", "nothing").complaints[0].startswith("task nothing does not exist")
    assert command("report", task_id, "--output", "nowhere/page.html").code == 2


def test_without_the_extra_the_command_says_what_to_install_and_writes_nothing(
    command: Callable[..., Any], runtime: Runtime, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_task(type="maintenance_global", tenant_id="user_0")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    before = place.files()

    ran = command("report")

    assert ran.code == 2
    assert "pip install 'photojobs[report]'" in ran.complaints[0]
    assert place.files() == before


def test_there_is_no_task_yet(command: Callable[..., Any], place_database: Database) -> None:
    assert TasksRepository(place_database).list_newest() == []
    assert "there is no task to report on" in command("report").complaints[0]


def test_what_a_job_did_is_spread_over_the_time_that_it_ran() -> None:
    def span(started: int, finished: int | None, items: int) -> JobSpan:
        return JobSpan(
            step_index=0,
            type="metadata",
            priority=95,
            worker_id="worker",
            status="completed",
            jobs=1,
            items=items,
            started_at=START + timedelta(seconds=started),
            finished_at=None if finished is None else START + timedelta(seconds=finished),
        )

    end = START + timedelta(seconds=PARTS)
    done = throughput_of([span(0, 59, 120), span(60, None, 30)], begin=START, end=end)
    only_jobs = throughput_of([span(5, 5, 0)], begin=START, end=end)

    assert (done.noun, done.total) == ("photo", 150)
    assert done.rates == pytest.approx([2.0] * 60 + [0.5] * 60)
    assert (only_jobs.noun, only_jobs.rates[5], sum(only_jobs.rates)) == ("job", 1.0, 1.0)


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (-2_000_000, "-2.0 MB"), (10**16, "10,000.0 TB")],
)
def test_sizes_are_read_by_people(size_bytes: int, words: str) -> None:
    assert size_in_words(size_bytes) == words
