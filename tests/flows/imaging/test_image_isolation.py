import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.imaging.errors import (
    DecoderCrashed,
    DecoderKilled,
    DecodingUnavailable,
    ImageTimeout,
    ImageTooLarge,
    SlowMachine,
    UnreadableImage,
)
from flows.imaging.isolation import image_processing, worker, worker_process
from flows.imaging.isolation.image_processing import ImagePool, InProcessImages, open_image_processing
from flows.imaging.isolation.worker import command_without_network
from flows.imaging.limits import ImageLimits, ImageOptions
from storage.available_cores import available_cores
from tests.loaded_packages import loaded_by

PROGRAM = "tests.flows.imaging.faulty_process"


@pytest.fixture(scope="module", autouse=True)
def faulty_processes() -> Iterator[None]:
    """The image processes of these tests can be made to fail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "PROGRAM", PROGRAM)
        yield


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[ImagePool]:
    with ImagePool(processes=1, timeout_seconds=60) as pool:
        yield pool


@pytest.fixture
def photo(jpeg: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg)
    return path


@pytest.fixture(params=["pool", "here"])
def images(request: pytest.FixtureRequest) -> Iterator[Any]:
    opened = ImagePool(processes=2) if request.param == "pool" else InProcessImages(at_once=2)
    with opened:
        yield opened


def test_both_ways_do_the_same_from_several_threads(images: Any, photo: Path, tmp_path: Path) -> None:
    def work(number: int) -> tuple[Any, Any]:
        thumbnail = tmp_path / f"{number}.webp"
        return images.make_derivatives(photo, thumbnail=thumbnail), images.read_metadata(photo)

    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(work, range(12)))
    assert {made.status for made, _ in results} == {"generated"}
    assert {read.width for _, read in results} == {120}
    assert len({(tmp_path / f"{number}.webp").read_bytes() for number in range(12)}) == 1


def test_both_ways_raise_the_same_errors_and_close_alike(images: Any, tmp_path: Path, photo: Path) -> None:
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(UnreadableImage, match=r"^text.jpg: it is not an image"):
        images.make_derivatives(tmp_path / "text.jpg", thumbnail=tmp_path / "t.webp")
    with pytest.raises(ValueError, match="neither"):
        images.make_derivatives(photo)
    images.close()
    images.close()
    for _ in range(2):
        with pytest.raises(DecodingUnavailable):
            images.read_metadata(photo)


@pytest.mark.parametrize("make", [ImagePool, InProcessImages])
def test_options_reach_the_decoder(make: Any, photo: Path, tmp_path: Path) -> None:
    with make(options=ImageOptions(limits=ImageLimits(max_pixels=100))) as images, pytest.raises(ImageTooLarge):
        images.make_derivatives(photo, thumbnail=tmp_path / "t.webp")


@pytest.mark.parametrize(
    ("operation", "arguments", "ending"),
    [
        ("abort", {}, "SIGABRT"),
        ("raise_signal", {"number": int(signal.SIGSEGV)}, "SIGSEGV"),
        ("exit", {"code": 3}, "exit code 3"),
    ],
)
def test_a_decoder_that_takes_its_process_down_costs_one_image(
    shared_pool: ImagePool, photo: Path, operation: str, arguments: dict[str, int], ending: str
) -> None:
    with pytest.raises(DecoderCrashed, match=rf"^bad.jpg: .*\({ending}\)"):
        shared_pool.run(operation, int, name="bad.jpg", **arguments)
    assert shared_pool.read_metadata(photo).width == 120


@pytest.mark.slow
def test_one_crash_does_not_touch_the_image_beside_it(detailed: Any, tmp_path: Path) -> None:
    source = tmp_path / "large.jpg"
    detailed(3000, 2000).jpegsave(str(source))
    with ImagePool(processes=2) as pool, ThreadPoolExecutor(2) as threads:
        other = threads.submit(pool.make_derivatives, source, preview=tmp_path / "p.webp")
        with pytest.raises(DecoderCrashed):
            pool.run("abort", int, name="bad.jpg")
        assert other.result().status == "generated"


@pytest.mark.slow
def test_an_image_that_never_ends_is_killed_and_the_next_one_is_done(photo: Path) -> None:
    with ImagePool(processes=1, timeout_seconds=0.2) as pool:
        with pytest.raises(ImageTimeout, match=r"^endless.jpg: decoding took longer than 0.2 seconds"):
            pool.run("spin", int, name="endless.jpg", seconds=3600)
        assert pool.process_ids == []
        pool._timeout_seconds = 60
        assert pool.read_metadata(photo).width == 120


def test_a_process_that_died_between_two_images_is_replaced_unnoticed(shared_pool: ImagePool, photo: Path) -> None:
    shared_pool.read_metadata(photo)
    [process_id] = shared_pool.process_ids
    os.kill(process_id, signal.SIGKILL)
    os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOWAIT)
    assert shared_pool.read_metadata(photo).width == 120
    assert shared_pool.process_ids != [process_id]


def test_a_killed_writer_leaves_no_temporary_file(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def die_in_the_middle(self: object, *_: Any, preview: str, **__: Any) -> None:
        written.append(Path(preview))
        with written[-1].open("xb") as file:
            file.write(b"half a picture")
        raise DecoderKilled("a.jpg: died")

    monkeypatch.setattr(worker.Worker, "call", die_in_the_middle)
    with ImagePool(processes=1) as pool, pytest.raises(DecoderKilled):
        pool.make_derivatives(photo, preview=tmp_path / "p.webp")
    assert len(written) == 2
    assert tmp_path / "p.webp" not in written
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("moment", ["send_bytes", "poll"])
def test_an_interrupted_call_does_not_leave_its_answer_to_the_next_caller(
    shared_pool: ImagePool, photo: Path, picture: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    other = photo.with_name("b.jpg")
    picture(200, 80).jpegsave(str(other))
    shared_pool.read_metadata(photo)
    original = getattr(Connection, moment)

    def interrupt(self: object, *arguments: Any) -> bool:
        original(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Connection, moment, interrupt)
        with pytest.raises(KeyboardInterrupt):
            shared_pool.read_metadata(other)
    assert shared_pool.read_metadata(photo).width == 120


def test_a_process_that_cannot_be_started_leaves_no_open_files_and_takes_no_result(
    shared_pool: ImagePool, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    shared_pool.read_metadata(photo)
    monkeypatch.setattr(worker.subprocess, "Popen", refuse)
    monkeypatch.setattr(worker, "MAX_RESIDENT_BYTES", 0)
    assert shared_pool.read_metadata(photo).width == 120
    before = os.listdir("/dev/fd")
    with ImagePool(processes=1) as pool, pytest.raises(OSError, match="temporarily"):
        pool.read_metadata(photo)
    assert len(os.listdir("/dev/fd")) == len(before)


def test_a_process_that_ends_at_its_start_is_no_fault_of_the_image(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PROGRAM", "sys")
    with ImagePool(processes=1) as pool, pytest.raises(DecodingUnavailable, match=r"did not start \(exit code 1\)"):
        pool.read_metadata(photo)


def test_an_error_that_cannot_travel_arrives_as_its_text(shared_pool: ImagePool) -> None:
    with pytest.raises(Exception, match="invalid start byte"):
        shared_pool.run("decode_text", str, name="a.jpg")
    with pytest.raises(Exception, match="No such file"):
        shared_pool.run("call", int, name="a.jpg", program="/nonexistent")


def test_closing_ends_what_is_still_running(photo: Path) -> None:
    pool = ImagePool(processes=1, timeout_seconds=3600)
    pool.read_metadata(photo)
    [process_id] = pool.process_ids
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(pool.run, "sleep", int, seconds=3600, name="endless.jpg")
        while not pool._idle.empty():
            os.sched_yield()
        waiting = threads.submit(pool.run, "process_id", int, name="waiting.jpg")
        pool.close()
        for future in (running, waiting):
            with pytest.raises(DecodingUnavailable):
                future.result(timeout=30)
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


@pytest.mark.slow
def test_a_process_that_keeps_too_much_memory_is_replaced_once_its_successor_is_ready(photo: Path) -> None:
    with ImagePool(processes=1) as pool:
        first = pool.run("process_id", int, name="a.jpg")
        pool.run("keep", int, name="a.jpg", count=worker.MAX_RESIDENT_BYTES)
        [own] = pool._workers
        successor = own._successor
        assert successor is not None
        assert successor.is_ready(wait_seconds=60)
        assert pool.run("process_id", int, name="a.jpg") == successor.popen.pid != first
        assert pool.run("process_id", int, name="a.jpg") == successor.popen.pid
        assert own._successor is None
    assert successor.popen.poll() is not None


def test_ctrl_c_is_left_to_the_parent(shared_pool: ImagePool, photo: Path) -> None:
    shared_pool.read_metadata(photo)
    [process_id] = shared_pool.process_ids
    os.kill(process_id, signal.SIGINT)
    assert shared_pool.run("process_id", int, name="a.jpg") == process_id
    assert os.getpgid(process_id) != os.getpgid(0)


def test_workers_die_with_their_parent_even_in_the_middle_of_an_image() -> None:
    program = (
        "import os, threading, time\n"
        "from flows.imaging.isolation import worker\n"
        "from flows.imaging.isolation.image_processing import ImagePool\n"
        f"worker.PROGRAM = {PROGRAM!r}\n"
        "pool = ImagePool(processes=1, timeout_seconds=3600)\n"
        "print(pool.run('process_id', int, name='a.jpg'), flush=True)\n"
        "arguments = {'name': 'a.jpg', 'seconds': 3600}\n"
        "threading.Thread(target=pool.run, args=('sleep', int), kwargs=arguments, daemon=True).start()\n"
        "while not pool._idle.empty(): time.sleep(0.001)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=120, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    orphan = int(done.stdout)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{orphan}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{orphan}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break  # The process has ended, but its new parent has not read its exit code yet.
        os.sched_yield()
    else:
        assert not Path(f"/proc/{orphan}").exists()


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_times_threads_never_exceed_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int
) -> None:
    monkeypatch.setattr(image_processing, "available_cores", lambda: cores)
    with ImagePool(processes=processes) as pool:
        threads = {worker._threads for worker in pool._workers}
        assert all(count * processes <= max(cores, processes) for count in threads)


def test_the_thread_count_reaches_libvips(shared_pool: ImagePool) -> None:
    with ImagePool(processes=1) as pool:
        assert pool.run("threads", int, name="a.jpg") == available_cores()


def test_a_call_costs_less_than_a_millisecond(shared_pool: ImagePool, photo: Path) -> None:
    shared_pool.read_metadata(photo)
    costs = []
    for _ in range(200):
        began = time.perf_counter()
        shared_pool.run("process_id", int, name="a.jpg")
        costs.append(time.perf_counter() - began)
    # The fastest attempt counts, because other programs may keep the processors busy.
    assert min(costs) < 0.001


def test_the_settings_choose_the_way_and_the_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_processing, "available_cores", lambda: 4)
    values = {
        "concurrency": 2,
        "image_isolation": True,
        "image_seconds": 12.0,
        "max_image_megapixels": 100,
        "image_memory_megabytes": 512,
        "thumbnail_pixels": 320,
        "thumbnail_quality": 40,
        "preview_pixels": 2048,
        "preview_quality": 70,
        "webp_effort": 1,
    }
    isolated: Any = open_image_processing(SimpleNamespace(**values))
    here: Any = open_image_processing(SimpleNamespace(**values | {"image_isolation": False}))
    assert isinstance(isolated, ImagePool)
    assert isinstance(here, InProcessImages)
    assert isolated._options == here._options
    assert len(isolated._workers) == 2
    assert here._options.limits == ImageLimits(max_pixels=100_000_000, max_seconds=12.0, max_memory_bytes=512 * 1024**2)
    assert (here._options.preview.long_edge_pixels, here._options.preview.effort) == (2048, 1)
    assert (here._options.thumbnail.quality, here._options.thumbnail.effort) == (40, 1)
    isolated.close()


def test_importing_the_package_loads_neither_libvips_nor_prefect() -> None:
    program = "import flows.imaging.isolation.image_processing"
    assert loaded_by(program, "pyvips", "rawpy", "prefect", "numpy") == []


def test_nothing_is_said_on_standard_error_about_a_bad_file(tmp_path: Path, jpeg: bytes) -> None:
    damaged = bytearray(jpeg)
    damaged[len(jpeg) // 2 : len(jpeg) // 2 + 20] = b"\xff\x00" * 10
    (tmp_path / "a.jpg").write_bytes(bytes(damaged))
    (tmp_path / "b.jpg").write_bytes(jpeg[:400])
    program = (
        "import sys; from pathlib import Path; from flows.imaging.thumbnail_and_preview import make_derivatives\n"
        "for name in ('a.jpg', 'b.jpg'):\n"
        "    try: make_derivatives(Path(sys.argv[1]) / name, thumbnail=Path(sys.argv[1]) / 't.webp')\n"
        "    except Exception as error: print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, check=True, text=True
    )
    assert done.stderr == ""
    assert "b.jpg: " in done.stdout


@pytest.mark.slow
def test_threads_that_wait_for_a_process_take_turns(photo: Path) -> None:
    with ImagePool(processes=1) as pool:
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(pool.run("process_id", int, name="a"))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8
        assert set(results) == set(pool.process_ids)


def test_an_image_process_has_few_arenas_and_no_password_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PHOTOJOBS_DATABASE_URL", "PREFECT_API_AUTH_STRING", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "MINE"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("VIPS_WARNING", "1")
    monkeypatch.delenv("DO_NOT_TRACK")
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    with ImagePool(processes=1) as pool:
        names = set(pool.run("environment", str, name="environment").split())
    # Without a limit of arenas, each thread would take 64 MiB of the memory that the process may have.
    assert {"VIPS_WARNING", "DO_NOT_TRACK", "MALLOC_ARENA_MAX"} <= names
    assert names.isdisjoint(
        {"PHOTOJOBS_DATABASE_URL", "PREFECT_API_AUTH_STRING", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "MINE"}
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the address space")
@pytest.mark.parametrize("inherited", [resource.RLIM_INFINITY, 4 << 30, 8 << 30])
def test_a_process_never_raises_a_memory_limit_that_it_inherits(
    monkeypatch: pytest.MonkeyPatch, inherited: int
) -> None:
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (inherited, inherited))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    worker_process._limit_memory(6 << 30)
    assert limits == [(4 << 30,) * 2 if inherited == 4 << 30 else (6 << 30,) * 2]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the address space")
def test_an_image_that_needs_more_memory_than_allowed_fails_alone() -> None:
    options = ImageOptions(limits=ImageLimits(max_memory_bytes=2 * 1024**3))
    with ImagePool(processes=1, options=options) as pool:
        with pytest.raises(ImageTooLarge, match=r"^large.png: decoding needs more memory"):
            pool.run("allocate", int, name="large.png", count=3 * 1024**3, source="large.png")
        assert pool.run("allocate", int, name="small", count=1024, source="small") == 1024


def test_an_image_process_reaches_no_network() -> None:
    if not command_without_network():
        pytest.skip("this system lets no program leave the network")
    with socket.create_server(("127.0.0.1", 0)) as server, ImagePool(processes=1) as pool:
        port = server.getsockname()[1]
        assert pool.run("connect", str, name="a.jpg", port=port) == "Network is unreachable"
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    "value",
    ["not a number", {"width": "much"}, ["a"] * 100_000, None],
    ids=["another type", "another form", "too long", "nothing"],
)
def test_an_answer_of_another_form_costs_one_image_and_the_process(shared_pool: ImagePool, value: Any) -> None:
    before = shared_pool.run("process_id", int, name="a.jpg")
    with pytest.raises(DecoderCrashed, match=r"^bad.jpg: "):
        shared_pool.run("answer", int, name="bad.jpg", value=value)
    assert shared_pool.run("process_id", int, name="a.jpg") != before


def test_a_process_never_makes_its_parent_build_an_object_of_its_choice(shared_pool: ImagePool) -> None:
    # Data that pickle would load as an object with an effect is read as text, or refused.
    assert (
        shared_pool.run("answer", str, name="a.jpg", value="cos\nsystem\n(S'true'\ntR.") == "cos\nsystem\n(S'true'\ntR."
    )


@pytest.mark.parametrize("operation", ["die_once", "be_late_once"])
def test_an_image_that_the_machine_failed_is_tried_once_more_alone(tmp_path: Path, operation: str) -> None:
    notes = tmp_path / "notes"
    with ImagePool(processes=2, timeout_seconds=3) as pool, ThreadPoolExecutor(2) as threads:
        other = threads.submit(pool.run, "sleep", int, name="b.jpg", seconds=1)
        process_id = pool.run(operation, int, name="a.jpg", notes=str(notes))
        assert other.done()
        assert process_id in pool.process_ids
    assert len(notes.read_text().splitlines()) == 2


def test_an_image_that_fails_the_machine_again_is_given_up(tmp_path: Path, photo: Path) -> None:
    with ImagePool(processes=2, timeout_seconds=60) as pool:
        with pytest.raises(DecoderKilled):
            pool.run("raise_signal", int, name="a.jpg", number=int(signal.SIGKILL))
        pool._timeout_seconds = 0.2
        with pytest.raises(SlowMachine):
            pool.run("sleep", int, name="a.jpg", seconds=3600)
        pool._timeout_seconds = 60
        assert pool.read_metadata(photo).width == 120


@pytest.mark.parametrize("operation", ["abort", "spin"])
def test_a_fault_of_the_file_is_not_tried_again(
    tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    call = worker.Worker.call

    def counted(self: Any, operation: str, *arguments: Any, **options: Any) -> Any:
        calls.append(operation)
        return call(self, operation, *arguments, **options)

    monkeypatch.setattr(worker.Worker, "call", counted)
    # On a busy machine, a process that never waits has little of a core as well.
    monkeypatch.setattr(worker, "_FAIR_SHARE", 0.001)
    with ImagePool(processes=2) as pool:
        pool._timeout_seconds = 60 if operation == "abort" else 1
        arguments = {} if operation == "abort" else {"seconds": 3600}
        with pytest.raises(DecoderCrashed if operation == "abort" else ImageTimeout):
            pool.run(operation, int, name="a.jpg", **arguments)
    assert calls == [operation]


def test_a_process_imports_neither_the_database_nor_prefect() -> None:
    program = "import flows.imaging.isolation.worker_process"
    assert loaded_by(program, "sqlalchemy", "prefect", "pydantic", "yaml") == []


def test_one_call_makes_the_derivatives_reads_the_metadata_and_takes_the_hash(
    images: Any, photo: Path, tmp_path: Path
) -> None:
    made = images.make_derivatives(
        photo, thumbnail=tmp_path / "t.webp", preview=tmp_path / "p.webp", with_hash=True, with_metadata=True
    )
    assert made.source == images.take_fingerprint(photo)
    assert made.source.content_hash is not None
    assert made.metadata == images.read_metadata(photo)
    alone = images.make_derivatives(photo, thumbnail=tmp_path / "t.webp", preview=tmp_path / "p.webp")
    assert (alone.source.content_hash, alone.metadata) == (None, None)
    assert alone.thumbnail == made.thumbnail
