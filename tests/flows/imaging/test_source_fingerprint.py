import errno
import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from flows.imaging import source_file
from flows.imaging.errors import ImageMissing, UnreadableImage
from flows.imaging.fingerprint import Fingerprint, read_source, take_fingerprint
from flows.imaging.metadata import read_metadata


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"first contents")
    os.utime(path, ns=(1_000, 1_000))
    return path


def test_a_fingerprint_tells_size_time_and_contents(photo: Path) -> None:
    expected = "blake3:" + blake3(b"first contents").hexdigest()
    assert take_fingerprint(photo) == Fingerprint(14, 1_000, photo.stat().st_ctime_ns, expected)


def test_the_same_contents_are_the_same_whatever_the_times_say(photo: Path) -> None:
    known = take_fingerprint(photo)
    os.utime(photo, ns=(2_000, 2_000))
    touched = read_source(photo, known)
    assert touched.is_same is True
    assert touched.fingerprint == Fingerprint(14, 2_000, photo.stat().st_ctime_ns, known.content_hash)


@pytest.mark.parametrize("contents", [b"OTHER contents", b"longer contents than before"])
def test_other_contents_are_others_whatever_the_times_say(photo: Path, contents: bytes) -> None:
    known = take_fingerprint(photo)
    photo.write_bytes(contents)
    os.utime(photo, ns=(1_000, 1_000))
    reading = read_source(photo, known)
    assert reading.is_same is False
    assert reading.fingerprint == take_fingerprint(photo)


def test_a_hash_is_compared_by_the_algorithm_that_it_names(photo: Path) -> None:
    old = "blake2b-128:" + hashlib.blake2b(b"first contents", digest_size=16).hexdigest()
    new = "blake3:" + blake3(b"first contents").hexdigest()
    for known, is_same in ((old, True), (new, True), (None, None), ("md6:00", None)):
        reading = read_source(photo, Fingerprint(14, 1_000, content_hash=known))
        assert (reading.is_same, reading.fingerprint.content_hash) == (is_same, new)
    photo.write_bytes(b"other contents")
    assert read_source(photo, Fingerprint(14, 1_000, content_hash=old)).is_same is False


def test_a_file_that_is_written_to_meanwhile_has_no_hash(photo: Path) -> None:
    known = take_fingerprint(photo)

    def write(_: int) -> None:
        photo.write_bytes(b"more contents, later")

    reading = read_source(photo, known, on_bytes=write)
    assert (reading.is_same, reading.fingerprint.content_hash) == (None, None)


def test_what_cannot_be_read_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ImageMissing):
        take_fingerprint(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage):
        read_source(tmp_path / "pipe.jpg", Fingerprint(0, 0))


@pytest.mark.parametrize("call", ["open", "lseek", "pread"])
def test_a_failing_disk_says_nothing_about_the_file(photo: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(place: Path | int, *_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), *([] if isinstance(place, int) else [str(place)]))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=rf"Input/output error: '{photo}'"):
        (read_metadata if call == "pread" else take_fingerprint)(photo)


def test_a_file_that_a_decoder_calls_damaged_is_read_to_find_a_failing_disk(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.pread

    def fail_at_contents(descriptor: int, size_bytes: int, offset: int) -> bytes:
        if size_bytes < 1 << 20:
            return read(descriptor, size_bytes, offset)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(UnreadableImage):
        read_metadata(photo)
    monkeypatch.setattr(os, "pread", fail_at_contents)
    with pytest.raises(OSError, match=rf"Input/output error: '{photo}'"):
        read_metadata(photo)
    monkeypatch.setattr(source_file, "MAX_CHECKED_BYTES", 0)
    with pytest.raises(UnreadableImage):
        read_metadata(photo)
