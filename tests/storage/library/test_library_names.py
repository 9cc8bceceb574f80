import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from storage.library.errors import UnsafePath
from storage.library.naming.kinds import DEFAULT_EXTENSIONS, AcceptedExtensions, FileKind
from storage.library.naming.names import check_name, name_key, printable, sanitize_folder_name, unsafe_reason

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("./\\\0 \n\u202eÅå", max_size=12)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "/etc/passwd", "a\0b", ".hidden", "line\nbreak", "x" * 256, "ö" * 128, "bad\udcff"],
)
def test_an_unsafe_name_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(UnsafePath, match="cannot be used as a file name") as caught:
        check_name(name, what="File name")
    assert caught.value.args[0].isprintable()


@pytest.mark.parametrize("name", ["IMG_0001.jpg", "ÅÄÖ 日本.JPG", "a.b.c", "x" * 255, " spaced ", "…", "-rf"])
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert check_name(name, what="File name") == name


@given(ANY_TEXT)
@example("..")
@example("...")
@example(". .")
@example("\u0344" * 80)
def test_a_sanitized_name_is_always_a_safe_folder_name(text: str) -> None:
    folder = sanitize_folder_name(text)
    assert unsafe_reason(folder) is None
    assert len(folder.encode()) <= 120
    assert folder == unicodedata.normalize("NFC", folder)
    assert folder == folder.strip(" ").rstrip(".")
    assert sanitize_folder_name(folder) == folder


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("Summer 2024", "Summer 2024"),
        ("a/b\\c", "a-b-c"),
        ("../../etc", "-..-etc"),
        ("  ...Trip...  ", "Trip"),
        ("A\u030angstro\u0308m", "Ångström"),
        ("tab\tand\nline", "tab and line"),
        ("\u202egpj.exe", "gpj.exe"),
        ("", "project"),
        ("...", "project"),
    ],
)
def test_sanitizing_keeps_what_is_readable(text: str, folder: str) -> None:
    assert sanitize_folder_name(text) == folder


@given(st.text())
def test_names_in_another_case_or_unicode_form_have_the_same_key(text: str) -> None:
    assert name_key(unicodedata.normalize("NFD", text)) == name_key(unicodedata.normalize("NFC", text))
    assert name_key(name_key(text)) == name_key(text)
    assume(text.swapcase().swapcase() == text)
    assert name_key(text.casefold()) == name_key(text)


def test_the_key_tells_different_names_apart() -> None:
    assert name_key("IMG_1") == name_key("img_1")
    assert name_key("Straße") == name_key("STRASSE")
    assert name_key("e\u0301") == name_key("É")
    assert name_key("IMG_1") != name_key("IMG_2")
    assert name_key("e") != name_key("é")


def test_a_name_that_cannot_be_shown_is_escaped() -> None:
    assert printable("Zürich.jpg") == "Zürich.jpg"
    assert printable("a\nb\udcff") == r"'a\nb\udcff'"


@pytest.mark.parametrize(
    ("name", "base_name", "kind"),
    [
        ("IMG.jpg", "IMG", FileKind.JPG),
        ("IMG.JPEG", "IMG", FileKind.JPG),
        ("IMG.Cr3", "IMG", FileKind.RAW),
        ("IMG.raw", "IMG", FileKind.RAW),
        ("IMG.HEIC", "IMG", FileKind.OTHER),
        ("IMG.avif", "IMG", FileKind.OTHER),
        ("IMG.xmp", "IMG", FileKind.SIDECAR),
        ("IMG.jpg.xmp", "IMG", FileKind.SIDECAR),
        ("IMG.CR2.XMP", "IMG", FileKind.SIDECAR),
        ("IMG.v2.xmp", "IMG.v2", FileKind.SIDECAR),
        ("IMG.v2.jpg", "IMG.v2", FileKind.JPG),
        ("film.mp4", "film", FileKind.UNACCEPTED),
        ("README", "README", FileKind.UNACCEPTED),
        ("IMG.", "IMG", FileKind.UNACCEPTED),
        (".project.yaml", ".project.yaml", FileKind.MANIFEST),
        (".DS_Store", ".DS_Store", FileKind.HIDDEN),
        (".jpg", ".jpg", FileKind.HIDDEN),
    ],
)
def test_a_file_name_tells_its_photo_and_its_kind(name: str, base_name: str, kind: FileKind) -> None:
    described = DEFAULT_EXTENSIONS.describe(name)
    assert (described.base_name, described.kind) == (base_name, kind)


def test_accepted_extensions_may_be_written_in_any_form() -> None:
    accepted = AcceptedExtensions(jpg=[".JPG"], raw=["nef"], other=[])
    assert accepted.describe("a.jpg").kind is FileKind.JPG
    assert accepted.describe("a.jpeg").kind is FileKind.UNACCEPTED
    assert accepted.describe("a.jpeg.xmp").base_name == "a.jpeg"
    assert accepted == AcceptedExtensions(jpg=["jpg"], raw=["NEF"], other=[])


@pytest.mark.parametrize("jpg", [["jpg", "nef"], ["xmp"], [""], ["tar.gz"], ["a/b"], "jpg"])
def test_extensions_that_contradict_each_other_or_are_none_are_refused(jpg: list[str]) -> None:
    with pytest.raises(ValueError, match="exten"):
        AcceptedExtensions(jpg=jpg)
