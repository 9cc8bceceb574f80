"""Companions: files that belong to a photo by their names, such as sidecars, edits, Live Photo movies and Takeout JSON.

One file name may fit several photos: `IMG_9_01.jpg.xmp` is the sidecar of `IMG_9_01.jpg` or, if that photo does not
exist, of the second version of `IMG_9.jpg` in darktable. The file belongs to the first photo that exists.
`docs/reference/companions.md` lists the names and the programs that write them. A new pattern for files beside their
photo belongs in `_by_name`, and a pattern with a folder in `FOLDER_PATTERNS`. Users add patterns by the setting
`companion_patterns`.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from storage.library.naming.names import name_key

#: Companions in folders below the photos' folder; `{file}` is the name of an image, and `*` any text.
FOLDER_PATTERNS: Final = ("NKSC_PARAM/{file}.*", "CaptureOne/Settings*/{file}.*")
#: The number of nested folders that a pattern may name below the project's folder.
MAX_FOLDERS: Final = 2

#: Google Takeout cuts the name of a JSON file to this length, without `.json` and a number such as `(1)`.
_TAKEOUT_CHARACTERS: Final = 46
_TAKEOUT_SUFFIX: Final = "supplemental-metadata"
_NUMBERED: Final = re.compile(r"(?P<title>.+)(?P<number>\(\d+\))", re.DOTALL)
_DARKTABLE_VERSION: Final = re.compile(r"(?P<base>.+)_\d{2,}", re.DOTALL)
#: Apple marks the files of an edited photo with E and the files of its original with O, as in IMG_O1234.AAE.
_APPLE_MARKED: Final = re.compile(r"(?P<prefix>[A-Z]{3}_)(?P<mark>[EO])(?P<number>\d{4}.*)", re.DOTALL | re.IGNORECASE)
_MARK_PLACE: Final = 4
_APPLE_EXTENSIONS: Final = frozenset({"aae", "mov"})
#: Extensions of companions that may have companions of their own, as in IMG_9.MOV.xmp and IMG_9.xmp.bak.
_WITH_COMPANIONS: Final = frozenset({"aae", "m4v", "mov", "mp4", "wav", "xmp"})
#: If a file was changed on two machines, Syncthing gives one of the two versions a name of this form.
_SYNC_CONFLICT: Final = re.compile(r"(?P<base>.+)\.sync-conflict-\d{8}-\d{6}-\w{7}\.[^.]+", re.DOTALL | re.ASCII)
_PLACEHOLDERS: Final = re.compile(r"(\{base\}|\{file\}|\*|\?)")


@dataclass(frozen=True, slots=True)
class Fit:
    """A photo that a file may belong to, if the photo exists.

    Attributes:
        path: the file's path, relative to the project's folder.
        base_name: the photo's base name; if `is_cut`, only its beginning, and the number, such as `(1)`, that the
            file's name may have.
        after: the part of the path after the photo's base name. A rename of the photo does not change this part.
        before: the part of the path before the photo's base name. A rename of the photo does not change this part,
            either.
        is_cut: whether `base_name` is only the beginning of the photo's name.
        mark: the letter E or O that Apple inserts in the file's name after the first four characters of the photo's
            base name; "" if the file's name has no such letter.
    """

    path: str
    base_name: str
    after: str
    before: str = ""
    is_cut: bool = False
    mark: str = ""

    @property
    def key(self) -> str:
        """The key of the photo; it is one of the `owner_keys` of the photo's base name."""
        return _cut_key(self.base_name) if self.is_cut else name_key(self.base_name)

    def renamed(self, new: str, *, old: str) -> str:
        """Return the file's path after the base name of its photo changes from `old` to `new`.

        If Takeout cut or numbered the file's name, the new path has the photo's full name, unless `new` equals `old`.
        """
        is_plain = not self.is_cut and f"{self.before}{self.base_name}{self.after}" == self.path
        if new == old and not is_plain:
            return self.path
        if self.mark:
            new = new[:_MARK_PLACE] + self.mark + new[_MARK_PLACE:]
        return f"{self.before}{new}{self.after}"


def owner_keys(base_name: str) -> tuple[str, ...]:
    """Return the keys of a photo. Each companion of the photo has one of these keys as its `Fit.key`."""
    key = name_key(base_name)
    if len(base_name) < _TAKEOUT_CHARACTERS:
        return (key,)
    cut = _cut_key(base_name[:_TAKEOUT_CHARACTERS])
    numbered = _NUMBERED.fullmatch(base_name)
    # A number at the end may come from Takeout or be part of the title, so there is a key for each case.
    if numbered is None or len(numbered["title"]) < _TAKEOUT_CHARACTERS:
        return (key, cut)
    return (key, _cut_key(numbered["title"][:_TAKEOUT_CHARACTERS] + numbered["number"]), cut)


class CompanionNames:
    """Finds the photos that a file may belong to by its name.

    Args:
        photo_extensions: the extensions of image files, in lower case, without the dot.
        patterns: names of further companions, such as `{base}-edit.psd` or `Edits/{file}.*`: `{base}` is a photo's base
            name, `{file}` the name of one of its images, `*` any text without `/`, `?` one character.

    Raises:
        ValueError: a pattern is not of this form.
    """

    def __init__(self, photo_extensions: Collection[str], patterns: Sequence[str] = ()) -> None:
        self._extensions = photo_extensions
        self._beginnings = {extension[:length] for extension in photo_extensions for length in range(len(extension))}
        self._patterns = [(pattern, _compiled(pattern, photo_extensions)) for pattern in (*patterns, *FOLDER_PATTERNS)]
        #: The folders that may have companions: each as the parts of its path below the project's folder; `*` is any
        #: text.
        self.folders = tuple(
            dict.fromkeys(tuple(pattern.split("/")[:-1]) for pattern, _ in self._patterns if "/" in pattern)
        )

    def fits(self, path: str) -> list[Fit]:
        """Return the photos that a file may belong to, best first; `path` is relative to the project's folder."""
        found = [] if "/" in path else list(self._by_name(path))
        for pattern, compiled in self._patterns:
            match = compiled.fullmatch(path) if ("/" in pattern) == ("/" in path) else None
            if match is None:
                continue
            base_name = match["name"] if "{base}" in pattern else _base_name(match["name"], self._extensions)
            if base_name is not None:
                start = match.start("name")
                found.append(Fit(path, base_name, path[start + len(base_name) :], path[:start]))
        return found

    def _by_name(self, name: str) -> Iterator[Fit]:
        stem, _, extension = name.rpartition(".")
        if not stem:
            yield Fit(name, name, "")
            return
        is_json = extension.lower() == "json"
        numbered = _NUMBERED.fullmatch(stem) if is_json else None
        if numbered is not None:
            # `IMG_1.jpg(2).json` belongs to `IMG_1(2).jpg`, another photo titled `IMG_1`. So `IMG_1.jpg` does not fit.
            yield Fit(name, stem, f".{extension}")
            yield from self._takeout(name, numbered["title"], numbered["number"])
            return
        yield from _of_files(name, self._extensions)
        # The name of a motion photo's movie is exactly the photo's base name: PXL_1.MP and PXL_1.MP.jpg.
        yield Fit(name, name, "")
        yield Fit(name, stem, f".{extension}")
        yield from _of_files(name, _WITH_COMPANIONS)
        conflict = _SYNC_CONFLICT.fullmatch(name)
        if conflict is not None:
            yield Fit(name, conflict["base"], name[len(conflict["base"]) :])
        if is_json:
            yield from self._takeout(name, stem, "")
        elif extension.lower() in _APPLE_EXTENSIONS:
            marked = _APPLE_MARKED.fullmatch(stem)
            if marked is not None:
                base_name = marked["prefix"] + marked["number"]
                yield Fit(name, base_name, f".{extension}", mark=marked["mark"])
        elif extension.lower() == "xmp":
            version = _DARKTABLE_VERSION.fullmatch(_base_name(stem, self._extensions) or "")
            if version is not None:
                yield Fit(name, version["base"], name[len(version["base"]) :])

    def _takeout(self, name: str, title: str, number: str) -> Iterator[Fit]:
        """Yield the photos whose metadata Takeout may have written to a JSON file with this title and number."""
        ending = name[-len(".json") :]
        for place in range(1, len(title)):
            if title[place] != ".":
                continue
            extension, _, suffix = title[place + 1 :].partition(".")
            is_whole = extension.lower() in self._extensions
            is_cut = len(title) >= _TAKEOUT_CHARACTERS and extension.lower() in self._beginnings
            if (is_whole or is_cut) and _TAKEOUT_SUFFIX.startswith(suffix):
                yield Fit(name, title[:place] + number, (title[place:] if is_whole else "") + ending)
        if len(title) == _TAKEOUT_CHARACTERS:
            yield Fit(name, title + number, ending, is_cut=True)


def _of_files(name: str, extensions: Collection[str]) -> Iterator[Fit]:
    """Yield the photo of each file name with one of the extensions that is the beginning of `name`, the longest first.

    For `a.jpg.xmp`, this is the photo `a`: the name begins with the image `a.jpg`.
    """
    end = len(name)
    while (end := name.rfind(".", 0, end)) > 0:
        base_name = _base_name(name[:end], extensions)
        if base_name is not None:
            yield Fit(name, base_name, name[len(base_name) :])


def _base_name(name: str, extensions: Collection[str]) -> str | None:
    """Return the base name of a file with one of the extensions; None if the file has another extension."""
    stem, _, extension = name.rpartition(".")
    return stem if stem and extension.lower() in extensions else None


def _cut_key(text: str) -> str:
    # No file name can contain NUL, so this key differs from the key of every whole name.
    return f"\0{name_key(text)}"


def _compiled(pattern: str, photo_extensions: Collection[str]) -> re.Pattern[str]:
    parts = pattern.split("/")
    placeholders = [part for part in _PLACEHOLDERS.findall(pattern) if part.startswith("{")]
    if len(placeholders) != 1 or placeholders[0] not in parts[-1]:
        raise ValueError(f"{pattern!r} needs exactly one of {{base}} and {{file}}, in the name of the file")
    if len(parts) > MAX_FOLDERS + 1 or any(not part or part.startswith(".") or "\\" in part for part in parts):
        raise ValueError(
            f"{pattern!r} must name a file in at most {MAX_FOLDERS} folders, with / between the names; no name may be "
            "empty or begin with a dot"
        )
    if pattern == placeholders[0]:
        raise ValueError(f"{pattern!r} would make every file the companion of a photo; add text to the name")
    image = rf"(?P<name>[^/]+\.(?:{'|'.join(sorted(photo_extensions))}))"
    texts = {"{base}": "(?P<name>[^/]+)", "{file}": image, "*": "[^/]*", "?": "[^/]"}
    regex = "".join(texts.get(part, re.escape(part)) for part in _PLACEHOLDERS.split(pattern))
    return re.compile(regex, re.DOTALL | re.IGNORECASE)
