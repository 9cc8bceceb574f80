import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from flows.imaging import fingerprint
from flows.imaging.errors import ImageMissing, UnreadableImage
from flows.imaging.fingerprint import Fingerprint, check_source, take_fingerprint


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"first contents")
    os.utime(path, ns=(1_000, 1_000))
    return path


def test_a_fingerprint_tells_size_time_and_contents(photo: Path) -> None:
    expected = "blake3:" + blake3(b"first contents").hexdigest()
    assert take_fingerprint(photo) == Fingerprint(14, 1_000, photo.stat().st_ctime_ns, expected)


def test_the_contents_are_read_only_where_the_time_alone_differs(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = take_fingerprint(photo)
    with monkeypatch.context() as patch:

        def refuse(*arguments: object) -> None:
            raise AssertionError("read")

        patch.setattr(fingerprint, "blocks", refuse)
        assert check_source(photo, known).changed is False
    os.utime(photo, ns=(2_000, 2_000))
    touched = check_source(photo, known)
    assert touched.changed is False
    assert touched.fingerprint == Fingerprint(14, 2_000, photo.stat().st_ctime_ns, known.content_hash)


def test_other_contents_with_the_old_size_and_time_count_as_changed(photo: Path) -> None:
    known = take_fingerprint(photo)
    photo.write_bytes(b"OTHER contents")
    os.utime(photo, ns=(1_000, 1_000))
    assert check_source(photo, known).changed is True


@pytest.mark.parametrize("contents", [b"other contents", b"longer contents than before"])
def test_other_contents_count_as_changed(photo: Path, contents: bytes) -> None:
    known = take_fingerprint(photo)
    photo.write_bytes(contents)
    check = check_source(photo, known)
    assert check.changed is True
    assert check.fingerprint == take_fingerprint(photo)


def test_a_hash_is_compared_by_the_algorithm_that_it_names_and_one_of_an_unknown_algorithm_is_no_match(
    photo: Path,
) -> None:
    old = "blake2b-128:" + hashlib.blake2b(b"first contents", digest_size=16).hexdigest()
    check = check_source(photo, Fingerprint(14, 999, content_hash=old))
    assert (check.changed, check.fingerprint.content_hash) == (False, old)
    photo.write_bytes(b"other contents")
    now = "blake3:" + blake3(b"other contents").hexdigest()
    for known in (old, "md6:00", now):
        check = check_source(photo, Fingerprint(14, 999, content_hash=known))
        assert (check.changed, check.fingerprint.content_hash) == (known != now, now)


def test_without_a_known_hash_another_time_counts_as_changed(photo: Path) -> None:
    assert check_source(photo, Fingerprint(14, 1_000)).changed is False
    assert check_source(photo, Fingerprint(14, 999)).changed is True


def test_what_cannot_be_read_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(ImageMissing):
        take_fingerprint(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage):
        check_source(tmp_path / "pipe.jpg", Fingerprint(0, 0))
