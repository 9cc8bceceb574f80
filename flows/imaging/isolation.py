"""Where images are decoded: here, or in processes of their own, so that a decoder that crashes costs one image.

Both ways have the same interface and may be used by several threads at once. Neither uses more threads than there are
cores.
"""

import os
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from flows.imaging import vips
from flows.imaging.errors import DecoderCrashed, DecoderKilled, ImageTimeout, PoolClosed, SlowMachine
from flows.imaging.fingerprint import Fingerprint, SourceReading, read_source, take_fingerprint
from flows.imaging.inspection import inspect_image
from flows.imaging.limits import ImageLimits, ImageOptions, Rendition
from flows.imaging.metadata import PhotoMetadata, read_metadata
from flows.imaging.thumbnail_and_preview import Derivatives, make_derivatives, replace_derivatives
from flows.imaging.worker import Worker

if TYPE_CHECKING:
    from storage.settings import Settings

#: Seconds beyond the limit after which a process is killed: the decoder stops by itself at the limit if it still can.
_GRACE_SECONDS = 2.0

Result = TypeVar("Result")


class ImageProcessing(Protocol):
    """Makes derivatives and reads metadata, somewhere."""

    def make_derivatives(
        self,
        source: Path,
        *,
        thumbnail: Path | None = None,
        preview: Path | None = None,
        with_hash: bool = False,
        with_metadata: bool = False,
    ) -> Derivatives:
        """See `flows.imaging.thumbnail_and_preview.make_derivatives`; also raises `DecoderCrashed` and `PoolClosed`."""
        ...

    def read_metadata(self, source: Path) -> PhotoMetadata:
        """See `flows.imaging.metadata.read_metadata`; also raises `DecoderCrashed`, `ImageTimeout`, `PoolClosed`."""
        ...

    def inspect(self, source: Path) -> Derivatives:
        """See `flows.imaging.inspection.inspect_image`; also raises as `read_metadata` does."""
        ...

    def take_fingerprint(self, source: Path) -> Fingerprint:
        """See `flows.imaging.fingerprint.take_fingerprint`."""
        ...

    def read_source(
        self, source: Path, known: Fingerprint, *, on_bytes: Callable[[int], None] = lambda _: None
    ) -> SourceReading | None:
        """See `flows.imaging.fingerprint.read_source`; None where a plan has no need to read the file."""
        ...

    def close(self) -> None:
        """End it; later calls raise `PoolClosed`. Closing twice is no error."""
        ...


class ImagePool:
    """Decodes in a few processes, started at their first use and replaced when they die.

    A call waits for a free process. Closing ends the calls that still run; they raise `PoolClosed`.

    Example:
        with ImagePool(processes=2, timeout_seconds=60) as pool:
            pool.make_derivatives(original, thumbnail=project.thumbnail("IMG_1"))
    """

    def __init__(
        self, *, processes: int | None = None, timeout_seconds: float | None = None, options: ImageOptions | None = None
    ) -> None:
        """Prepare a pool; no process is started yet.

        Args:
            processes: how many at most; None: one for each core.
            timeout_seconds: how long a call may take, not counting the wait for a process; None: as the limits say.
            options: limits and renditions.
        """
        self._options = options or ImageOptions()
        self._timeout_seconds = (
            self._options.limits.max_seconds + _GRACE_SECONDS if timeout_seconds is None else timeout_seconds
        )
        count = available_cores() if processes is None else processes
        if count < 1 or self._timeout_seconds <= 0:
            raise ValueError("an image pool needs at least one process and a time limit above zero")
        threads = max(1, available_cores() // count)
        self._workers = [Worker(threads=threads, options=self._options) for _ in range(count)]
        self._count = count
        # The last one used is taken first, so that a pool with little to do starts few processes.
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._closed = False

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that run now."""
        return [process_id for worker in self._workers if (process_id := worker.process_id) is not None]

    def make_derivatives(
        self,
        source: Path,
        *,
        thumbnail: Path | None = None,
        preview: Path | None = None,
        with_hash: bool = False,
        with_metadata: bool = False,
    ) -> Derivatives:
        """See `flows.imaging.thumbnail_and_preview.make_derivatives`; also raises `DecoderCrashed` and `PoolClosed`."""

        def write(thumbnail: Path | None, preview: Path | None) -> Derivatives:
            paths = {"thumbnail": thumbnail, "preview": preview}

            def remove_half() -> None:
                for path in paths.values():
                    if path is not None:
                        path.unlink(missing_ok=True)

            return self.run(
                "write_derivatives",
                Derivatives,
                name=source.name,
                after_failure=remove_half,
                source=str(source),
                with_hash=with_hash,
                with_metadata=with_metadata,
                **{kind: None if path is None else str(path) for kind, path in paths.items()},
            )

        # Flushed here, where another picture can be decoded while this one waits for the disk.
        return replace_derivatives(write, thumbnail=thumbnail, preview=preview)

    def read_metadata(self, source: Path) -> PhotoMetadata:
        """See `flows.imaging.metadata.read_metadata`; also raises `DecoderCrashed`, `ImageTimeout`, `PoolClosed`."""
        return self.run("read_metadata", PhotoMetadata, name=source.name, source=str(source))

    def inspect(self, source: Path) -> Derivatives:
        """See `flows.imaging.inspection.inspect_image`; also raises as `read_metadata` does."""
        return self.run("inspect_image", Derivatives, name=source.name, source=str(source))

    def take_fingerprint(self, source: Path) -> Fingerprint:
        """See `flows.imaging.fingerprint.take_fingerprint`; it decodes nothing, so it happens here."""
        return take_fingerprint(source)

    def read_source(
        self, source: Path, known: Fingerprint, *, on_bytes: Callable[[int], None] = lambda _: None
    ) -> SourceReading:
        """See `flows.imaging.fingerprint.read_source`; it decodes nothing, so it happens here."""
        return read_source(source, known, on_bytes=on_bytes)

    def run(
        self,
        operation: str,
        result_type: type[Result],
        *,
        name: str,
        after_failure: Callable[[], None] = lambda: None,
        **arguments: Any,
    ) -> Result:
        """Perform an operation in one of the processes; see `Worker.call`.

        If the process was killed from outside, or had too little of the processor, the operation is tried once more
        while no other process of the pool works.

        Args:
            operation: see `Worker.call`.
            result_type: see there.
            name: see there.
            after_failure: called after each try that the process did not finish.
            arguments: see there.
        """

        def attempt(worker: Worker) -> Result:
            try:
                return worker.call(
                    operation, result_type, name=name, timeout_seconds=self._timeout_seconds, **arguments
                )
            except (DecoderCrashed, ImageTimeout) as error:
                after_failure()
                if self._closed:
                    raise PoolClosed(f"{name}: the image pool was closed meanwhile.") from error
                raise

        try:
            with self._taken(1, name) as workers:
                return attempt(workers[0])
        except (DecoderKilled, SlowMachine):
            # One at a time: two that each hold some of the processes would wait for each other.
            with self._alone, self._taken(self._count, name) as workers:
                return attempt(workers[0])

    @contextmanager
    def _taken(self, count: int, name: str) -> Generator[list[Worker]]:
        """So many of the processes, for the block alone; waits for them."""
        taken: list[Worker] = []
        try:
            for _ in range(count):
                worker = self._idle.get()
                if worker is None:
                    self._idle.put(None)
                    raise PoolClosed(f"{name}: the image pool is closed.")
                taken.append(worker)
            yield taken
        finally:
            for worker in taken:
                self._release(worker)

    def close(self) -> None:
        """End all processes, those in the middle of an image too. Closing twice is no error."""
        with self._lock:
            self._closed = True
            idle = _drain(self._idle)
            busy = [worker for worker in self._workers if worker not in idle]
            self._workers = []
            self._idle.put(None)  # Wakes whoever waits for a process.
        for worker in busy:
            worker.kill()
        for worker in idle:
            worker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _release(self, worker: Worker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.put(worker)
                return
        worker.stop(at_once=True)


class InProcessImages:
    """Decodes in this process: faster to start, but a decoder that crashes takes the process with it.

    Time limits hold while pixels are decoded, not while they are encoded, which the size limits bound.
    """

    def __init__(self, *, at_once: int | None = None, options: ImageOptions | None = None) -> None:
        """Prepare for so many images at a time.

        Args:
            at_once: how many at most; further callers wait. None: one for each core.
            options: limits and renditions.
        """
        self._options = options or ImageOptions()
        count = available_cores() if at_once is None else at_once
        if count < 1:
            raise ValueError("at least one image at a time must be possible")
        self._slots = threading.BoundedSemaphore(count)
        self._threads = max(1, available_cores() // count)
        self._closed = False

    def make_derivatives(
        self,
        source: Path,
        *,
        thumbnail: Path | None = None,
        preview: Path | None = None,
        with_hash: bool = False,
        with_metadata: bool = False,
    ) -> Derivatives:
        """See `flows.imaging.thumbnail_and_preview.make_derivatives`; also raises `PoolClosed`."""
        return self._run(
            make_derivatives,
            source,
            thumbnail=thumbnail,
            preview=preview,
            options=self._options,
            with_hash=with_hash,
            with_metadata=with_metadata,
        )

    def read_metadata(self, source: Path) -> PhotoMetadata:
        """See `flows.imaging.metadata.read_metadata`; also raises `PoolClosed`."""
        return self._run(read_metadata, source)

    def inspect(self, source: Path) -> Derivatives:
        """See `flows.imaging.inspection.inspect_image`; also raises `PoolClosed`."""
        return self._run(inspect_image, source, limits=self._options.limits)

    def take_fingerprint(self, source: Path) -> Fingerprint:
        """See `flows.imaging.fingerprint.take_fingerprint`; it decodes nothing, so it happens here."""
        return take_fingerprint(source)

    def read_source(
        self, source: Path, known: Fingerprint, *, on_bytes: Callable[[int], None] = lambda _: None
    ) -> SourceReading:
        """See `flows.imaging.fingerprint.read_source`; it decodes nothing, so it happens here."""
        return read_source(source, known, on_bytes=on_bytes)

    def close(self) -> None:
        """Take no more images; those in work are finished."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, function: Callable[..., Result], source: Path, **options: Any) -> Result:
        with self._slots:
            if self._closed:
                raise PoolClosed(f"{source.name}: image processing is closed.")
            vips.set_threads(self._threads)
            return function(source, **options)


def open_image_processing(settings: "Settings") -> ImageProcessing:
    """Image processing as the settings want it: isolated or not, and no more images at a time than there are cores."""
    options = ImageOptions(
        limits=ImageLimits(
            max_pixels=settings.max_image_megapixels * 10**6,
            max_seconds=settings.image_seconds,
            max_memory_bytes=settings.image_memory_megabytes * 1024**2,
        ),
        thumbnail=Rendition(
            long_edge_pixels=settings.thumbnail_pixels,
            quality=settings.thumbnail_quality,
            effort=settings.webp_effort,
        ),
        preview=Rendition(
            long_edge_pixels=settings.preview_pixels, quality=settings.preview_quality, effort=settings.webp_effort
        ),
    )
    at_once = min(settings.concurrency, available_cores())
    if settings.image_isolation:
        return ImagePool(processes=at_once, options=options)
    return InProcessImages(at_once=at_once, options=options)


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _drain(idle: queue.LifoQueue[Worker | None]) -> list[Worker]:
    drained: list[Worker] = []
    while True:
        try:
            worker = idle.get_nowait()
        except queue.Empty:
            return drained
        if worker is not None:
            drained.append(worker)
