"""Processes many photos at once: threads keep all image processes busy, and rows are written in batches."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from flows.errors import SkipItem
from flows.handlers.step_context import StepContext
from flows.steps.targets.photo_files import PhotoFiles, PhotoTask, find_files
from flows.steps.targets.target_photos import Worked, each_photo, each_project_photo
from flows.steps.targets.target_projects import check_project
from storage.available_cores import available_cores
from storage.batches import batched
from storage.library.atomic_write import fsync_folder
from storage.library.paths import ProjectFolder
from storage.photos.derivatives import METADATA, Derivative, DerivativeKind, DerivativesRepository, ProcessedPhoto
from storage.photos.originals import Original, OriginalsRepository
from storage.photos.photos import PhotosRepository
from storage.photos.projects import ProjectsRepository
from storage.records import Photo
from task_definitions import MAX_ITEMS_PER_JOB

#: The number of finished photos whose rows are written together. After a crash, photos without written rows are
#: processed again.
BATCH_SIZE = 50
#: The rows of finished photos are also written if the last write is this long ago.
WRITE_SECONDS = 2.0

#: Largest number of photos of a project whose files are searched for in one directory scan.
SCAN_BATCH_SIZE = 10_000

#: The number of threads for each image process, so that one photo is decoded while another photo waits for the disk.
THREADS_PER_PROCESS = 2

#: The number of photos that are submitted for each thread, so that no thread is idle while results are written.
WINDOW_PER_THREAD = 2

Argument = TypeVar("Argument")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class PhotoResult:
    """The result of the work on one photo, which a thread creates and the handler writes to the database.

    Attributes:
        values: new values of columns of the photo's row. Only values that differ are written.
        meta: the keys of `meta_json` that photojobs owns, with their new values. A key with the value None is removed.
        derivatives: new rows of derivatives, which name the source file even if making the derivative failed.
        originals: the present rows of the photo's files by name. Only rows that differ are written.
        made_anew: the kinds of derivatives that had no file before.
        has_written_files: whether any derivative was written.
        counts: the kinds to count in the report, each with an example.
        error: the reason why the photo failed or was skipped. The other attributes are still written.
        seconds: the duration of the work, including the wait for an image process.
    """

    values: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] | None = None
    derivatives: list[Derivative] = field(default_factory=list)
    originals: dict[str, Original] = field(default_factory=dict)
    made_anew: list[str] = field(default_factory=list)
    has_written_files: bool = False
    counts: list[tuple[str, str]] = field(default_factory=list)
    error: Exception | None = None
    seconds: float = 0.0


#: A function that works on one photo, in a thread. It raises an error only if there is nothing to write.
PhotoWork = Callable[[PhotoTask], PhotoResult]


def process_items(ctx: StepContext, work: PhotoWork) -> None:
    """Work on the photos of the job's items, and end each item.

    A standalone job without items works on all photos of its projects.
    """
    each_photo(ctx, partial(process_photos, ctx, work), partial(_photos_of, ctx))


def process_projects(ctx: StepContext, work: PhotoWork) -> None:
    """Work on all photos of the job's projects. A project fails if one of its photos fails."""
    ctx.library.check_available()
    each_project_photo(ctx, partial(process_photos, ctx, work), partial(_photos_of, ctx))


def process_photos(ctx: StepContext, work: PhotoWork, folder: ProjectFolder, photos: Sequence[Photo]) -> Worked:
    """Work on photos of one project. Yield each photo with its error or None, after its result has been written.

    Raises:
        ProjectUnavailable: no photo has a file, and the folder has no files of the project; see `check_project`.
        FolderMissing, FolderUnreadable: the project's folder cannot be listed.
    """
    files = find_files(ctx, folder, photos)
    # Folders are created only if a photo has files, because the project's folder may be the mount point of a missing
    # disk.
    has_files = any(own.images for own in files.values())
    if not has_files:
        _check_project(ctx, folder, photos)
    elif not (folder.thumb.is_dir() and folder.preview.is_dir()):
        folder.create_hidden_folders()
    finished: list[tuple[PhotoTask, PhotoResult]] = []
    written_at = time.monotonic()
    tasks = _tasks(ctx, folder, photos, files)
    threads = THREADS_PER_PROCESS * _processes(ctx)
    for answer in answers_and_pauses(ctx, tasks, lambda task: _safely(work, task), threads=threads):
        if answer is not None:
            finished.append(answer)
        if len(finished) >= BATCH_SIZE or (finished and time.monotonic() - written_at >= WRITE_SECONDS):
            yield from _write(ctx, folder, finished)
            # The caller may have recorded outcomes of items meanwhile, so they are written too.
            ctx.outcomes.write()
            finished, written_at = [], time.monotonic()
    yield from _write(ctx, folder, finished)


def answers_and_pauses(
    ctx: StepContext,
    arguments: Iterable[Argument],
    function: Callable[[Argument], Answer],
    *,
    threads: int | None = None,
) -> Iterator[tuple[Argument, Answer] | None]:
    """Call a function for each argument in several threads, and yield each argument with its answer when it arrives.

    None is yielded each time that no answer has arrived for `WRITE_SECONDS`. If the caller stops early, calls that have
    not begun are dropped, and the generator waits for the running calls.
    """
    threads = threads or _processes(ctx)
    waiting: dict[Future[Answer], Argument] = {}
    executor = ThreadPoolExecutor(threads, thread_name_prefix="photojobs-images")
    remaining = iter(arguments)
    try:
        while True:
            for argument in islice(remaining, threads * WINDOW_PER_THREAD - len(waiting)):
                ctx.checkpoint()
                waiting[executor.submit(function, argument)] = argument
            if not waiting:
                return
            ctx.checkpoint()
            answered = wait(waiting, WRITE_SECONDS, FIRST_COMPLETED).done
            if not answered:
                yield None
            for future in answered:
                yield waiting.pop(future), future.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _processes(ctx: StepContext) -> int:
    return min(ctx.settings.concurrency, available_cores())


def _photos_of(ctx: StepContext, project_id: int) -> Iterator[list[Photo]]:
    return batched(PhotosRepository(ctx.database).iterate_project(project_id), SCAN_BATCH_SIZE)


def _check_project(ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo]) -> None:
    project = ProjectsRepository(ctx.database).get_by_id(photos[0].project_id) if photos else None
    if project is not None:
        check_project(ctx, project, folder)


def _tasks(
    ctx: StepContext, folder: ProjectFolder, photos: Sequence[Photo], files: dict[int, PhotoFiles]
) -> Iterator[PhotoTask]:
    for batch in batched(photos, MAX_ITEMS_PER_JOB):
        with ctx.read() as connection:
            ids = [photo.id for photo in batch]
            known = DerivativesRepository(connection).get_many(ids)
            originals = OriginalsRepository(connection).get_many(ids)
        for photo in batch:
            own = {kind: known[photo.id, kind] for kind in DerivativeKind if (photo.id, kind) in known}
            metadata_source = known.get((photo.id, METADATA))
            yield PhotoTask(photo, folder, files[photo.id], own, metadata_source, originals[photo.id])


def _safely(work: PhotoWork, task: PhotoTask) -> PhotoResult:
    began_at = time.monotonic()
    try:
        result = work(task)
    except Exception as error:  # noqa: BLE001 - the error concerns only this photo.
        result = PhotoResult(error=error)
    result.seconds = time.monotonic() - began_at
    return result


def _write(ctx: StepContext, folder: ProjectFolder, finished: list[tuple[PhotoTask, PhotoResult]]) -> Worked:
    processed = [_processed(task, result) for task, result in finished]
    processed = [one for one in processed if one.values or one.meta or one.derivatives or one.originals]
    outdated: set[int] = set()
    if any(result.has_written_files for _, result in finished):
        for path in (folder.thumb, folder.preview, folder.path):
            fsync_folder(path)
    if processed:
        remarks = {task.photo.id: {"made": result.made_anew} for task, result in finished if result.made_anew}
        with ctx.transaction(photo_ids=[one.photo.id for one in processed], remarks=remarks) as connection:
            outdated = DerivativesRepository(connection).write_processed(processed)
    for task, result in finished:
        photo = task.photo
        ctx.report.took(photo.filename, result.seconds)
        if photo.id in outdated:
            yield photo, SkipItem("the photo was moved or removed in the meantime")
            continue
        for name, example in result.counts:
            ctx.report.count(name, example=example)
        yield photo, result.error


def _processed(task: PhotoTask, result: PhotoResult) -> ProcessedPhoto:
    return ProcessedPhoto(
        photo=task.photo,
        values={name: value for name, value in result.values.items() if getattr(task.photo, name) != value},
        meta=result.meta,
        derivatives=tuple(result.derivatives),
        originals=tuple(one for one in result.originals.values() if one != task.originals.get(one.name)),
    )
