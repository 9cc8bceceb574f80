"""Runs image operations in this process, or in separate processes so that a crash of a decoder affects only one image.

`InProcessImages` and `ImagePool` have the same interface, and several threads may use them at once. All images of a
process together use at most one thread for each core. The setting `image_isolation` chooses one of the two, and
`concurrency` limits how many images are decoded at a time.
"""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack

from flows.imaging.errors import DecoderCrashed, DecoderKilled, DecodingUnavailable, ImageTimeout, SlowMachine
from flows.imaging.fingerprint import Fingerprint, SourceReading, read_source, take_fingerprint
from flows.imaging.isolation.worker import Worker
from flows.imaging.limits import ImageLimits, ImageOptions, Rendition
from flows.imaging.metadata import PhotoMetadata, read_metadata
from flows.imaging.pixels import vips
from flows.imaging.thumbnail_and_preview import (
    Derivatives,
    inspect_image,
    make_derivatives,
    replace_derivatives,
)
from storage.available_cores import available_cores

if TYPE_CHECKING:
    from storage.settings import Settings

#: How long after the time limit a process is killed. A decoder that still responds stops itself at the limit.
_GRACE_SECONDS = 2.0

Result = TypeVar("Result")


class Wanted(TypedDict, total=False):
    """What to make from an original, as arguments of `flows.imaging.thumbnail_and_preview.make_derivatives`."""

    thumbnail: Path | None
    preview: Path | None
    with_hash: bool
    with_metadata: bool


class ImageProcessing(ABC):
    """Makes derivatives and reads metadata, in this process or in other processes.

    It is closed at the end of a `with` block.
    """

    @abstractmethod
    def make_derivatives(self, source: Path, **wanted: Unpack[Wanted]) -> Derivatives:
        """Make derivatives as `flows.imaging.thumbnail_and_preview.make_derivatives` does.

        The method raises the same errors, and also `DecoderCrashed` and `DecodingUnavailable`.
        """

    @abstractmethod
    def read_metadata(self, source: Path) -> PhotoMetadata:
        """Read metadata as `flows.imaging.metadata.read_metadata` does.

        The method raises the same errors, and also `DecoderCrashed`, `ImageTimeout` and `DecodingUnavailable`.
        """

    @abstractmethod
    def inspect(self, source: Path) -> Derivatives:
        """Inspect an original as `flows.imaging.thumbnail_and_preview.inspect_image` does.

        The method raises the same errors, and also the errors of `read_metadata`.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop image processing. A second call has no effect.

        Later calls of `make_derivatives`, `read_metadata` and `inspect` raise `DecodingUnavailable`.
        """

    def take_fingerprint(self, source: Path) -> Fingerprint:
        """Return the fingerprint of an original, in this process, because no image is decoded.

        The method raises the errors of `flows.imaging.fingerprint.take_fingerprint`.
        """
        return take_fingerprint(source)

    def read_source(
        self, source: Path, known: Fingerprint, *, on_bytes: Callable[[int], None] = lambda _: None
    ) -> SourceReading | None:
        """Read and compare an original as `flows.imaging.fingerprint.read_source` does, with the same errors.

        The method runs in this process, because it decodes no image. It returns None if a plan need not read the file.
        """
        return read_source(source, known, on_bytes=on_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ImagePool(ImageProcessing):
    """Decodes images in a few processes, which start at their first use and are replaced if they die.

    A call waits for a free process. `close` ends running calls, which then raise `DecodingUnavailable`.

    Example:
        with ImagePool(processes=2, timeout_seconds=60) as pool:
            pool.make_derivatives(original, thumbnail=project.thumbnail("IMG_1"))
    """

    def __init__(
        self, *, processes: int | None = None, timeout_seconds: float | None = None, options: ImageOptions | None = None
    ) -> None:
        """Prepare a pool without starting a process. By default, it has at most one process for each core.

        The time limit of a call is by default two seconds more than the limit in `options`. It does not include the
        wait for a process.
        """
        self._options = options or ImageOptions()
        self._timeout_seconds = (
            self._options.limits.max_seconds + _GRACE_SECONDS if timeout_seconds is None else timeout_seconds
        )
        count = available_cores() if processes is None else processes
        if count < 1 or self._timeout_seconds <= 0:
            raise ValueError(
                f"processes is {count} and timeout_seconds is {self._timeout_seconds:g}; an image pool needs at least "
                "one process and a time limit above zero"
            )
        threads = max(1, available_cores() // count)
        self._workers = [Worker(threads=threads, options=self._options) for _ in range(count)]
        self._count = count
        # The process that was used last is used first, so that a pool with little work starts few processes.
        self._idle: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._closed = False

    @property
    def process_ids(self) -> list[int]:
        """The ids of the running processes."""
        return [process_id for worker in self._workers if (process_id := worker.process_id) is not None]

    def make_derivatives(self, source: Path, **wanted: Unpack[Wanted]) -> Derivatives:
        """Make derivatives in one of the processes; see `ImageProcessing`."""

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
                with_hash=wanted.get("with_hash", False),
                with_metadata=wanted.get("with_metadata", False),
                **{kind: None if path is None else str(path) for kind, path in paths.items()},
            )

        # This process flushes the files to the disk, so that the image process can decode the next picture meanwhile.
        return replace_derivatives(write, thumbnail=wanted.get("thumbnail"), preview=wanted.get("preview"))

    def read_metadata(self, source: Path) -> PhotoMetadata:
        """Read metadata in one of the processes; see `ImageProcessing`."""
        return self.run("read_metadata", PhotoMetadata, name=source.name, source=str(source))

    def inspect(self, source: Path) -> Derivatives:
        """Inspect an original in one of the processes; see `ImageProcessing`."""
        return self.run("inspect_image", Derivatives, name=source.name, source=str(source))

    def run(
        self,
        operation: str,
        result_type: type[Result],
        *,
        name: str,
        after_failure: Callable[[], None] = lambda: None,
        **arguments: Any,
    ) -> Result:
        """Run an operation of `worker_process` in one of the processes. `name` is the file's name, for messages.

        The operation runs once more if the process was killed, or if it got too little processor time. During this
        second attempt, the other processes of the pool are idle. `after_failure` is called after each attempt that
        ended with a crash or a timeout.
        """

        def attempt(worker: Worker) -> Result:
            try:
                return worker.call(
                    operation, result_type, name=name, timeout_seconds=self._timeout_seconds, **arguments
                )
            except (DecoderCrashed, ImageTimeout) as error:
                after_failure()
                if self._closed:
                    raise DecodingUnavailable(
                        f"{name}: decoding was interrupted, because this process ends. Run the step again."
                    ) from error
                raise

        try:
            with self._taken(1, name) as workers:
                return attempt(workers[0])
        except (DecoderKilled, SlowMachine):
            # The lock allows one such call at a time. Two calls that each keep some processes would wait forever.
            with self._alone, self._taken(self._count, name) as workers:
                return attempt(workers[0])

    @contextmanager
    def _taken(self, count: int, name: str) -> Generator[list[Worker]]:
        """Wait for `count` free processes, and reserve them while the block runs."""
        taken: list[Worker] = []
        try:
            for _ in range(count):
                worker = self._idle.get()
                if worker is None:
                    self._idle.put(None)
                    raise DecodingUnavailable(
                        f"{name}: this process decodes no more images, because it ends. Run the step again."
                    )
                taken.append(worker)
            yield taken
        finally:
            for worker in taken:
                self._release(worker)

    def close(self) -> None:
        """End all processes, even during an operation. A second call has no effect."""
        with self._lock:
            self._closed = True
            idle = _drain(self._idle)
            busy = [worker for worker in self._workers if worker not in idle]
            self._workers = []
            self._idle.put(None)  # Wakes the callers that wait for a process.
        for worker in busy:
            worker.kill()
        for worker in idle:
            worker.stop()

    def _release(self, worker: Worker) -> None:
        with self._lock:
            if not self._closed:
                self._idle.put(worker)
                return
        worker.stop(at_once=True)


class InProcessImages(ImageProcessing):
    """Decodes images in this process. It starts faster than a pool, but a crash of a decoder ends the process.

    The time limit applies only to decoding. The size limits bound the time of encoding.
    """

    def __init__(self, *, at_once: int | None = None, options: ImageOptions | None = None) -> None:
        """Prepare image processing of `at_once` images at a time, by default one for each core. Other callers wait."""
        self._options = options or ImageOptions()
        count = available_cores() if at_once is None else at_once
        if count < 1:
            raise ValueError(f"at_once is {count}; it must be at least 1")
        self._slots = threading.BoundedSemaphore(count)
        self._threads = max(1, available_cores() // count)
        self._closed = False

    def make_derivatives(self, source: Path, **wanted: Unpack[Wanted]) -> Derivatives:
        """Make derivatives in this process; see `ImageProcessing`."""
        return self._run(make_derivatives, source, options=self._options, **wanted)

    def read_metadata(self, source: Path) -> PhotoMetadata:
        """Read metadata in this process; see `ImageProcessing`."""
        return self._run(read_metadata, source)

    def inspect(self, source: Path) -> Derivatives:
        """Inspect an original in this process; see `ImageProcessing`."""
        return self._run(inspect_image, source, limits=self._options.limits)

    def close(self) -> None:
        """Refuse further operations. Running operations finish."""
        self._closed = True

    def _run(self, function: Callable[..., Result], source: Path, **options: Any) -> Result:
        with self._slots:
            if self._closed:
                raise DecodingUnavailable(
                    f"{source.name}: this process decodes no more images, because it ends. Run the step again."
                )
            vips.set_threads(self._threads)
            return function(source, **options)


def open_image_processing(settings: "Settings") -> ImageProcessing:
    """Open image processing in separate processes or in this process, as the settings say.

    It decodes at most `concurrency` images at a time, and never more than there are cores.
    """
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


def _drain(idle: queue.LifoQueue[Worker | None]) -> list[Worker]:
    drained: list[Worker] = []
    while True:
        try:
            worker = idle.get_nowait()
        except queue.Empty:
            return drained
        if worker is not None:
            drained.append(worker)
