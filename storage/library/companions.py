"""Companions: files that belong to a photo by their names, such as sidecars, edits, Live Photo movies and Takeout JSON.

Which photo a name means depends on the photos that there are: `IMG_9_01.jpg.xmp` is the sidecar of `IMG_9_01.jpg`, or
else the second version that darktable keeps of `IMG_9.jpg`. A name therefore has several fits, best first, and the file
belongs to the first photo that exists. `docs/reference/companions.md` says which program writes which name.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from storage.library.names import name_key

#: Files in folders of their own beside the photos; `*` is any text.
FOLDER_PATTERNS: Final = ("NKSC_PARAM/{file}.*", "CaptureOne/Settings*/{file}.*")
#: Folders below a project's that a pattern may name.
MAX_FOLDERS: Final = 2

#: Google Takeout cuts the name of a JSON file, without `.json` and its number, to so many characters.
_TAKEOUT_CHARACTERS: Final = 46
_TAKEOUT_SUFFIX: Final = "supplemental-metadata"
_NUMBERED: Final = re.compile(r"(?P<title>.+)(?P<number>\(\d+\))", re.DOTALL)
_DARKTABLE_VERSION: Final = re.compile(r"(?P<base>.+)_\d{2,}", re.DOTALL)
#: Apple marks what belongs to the edited form of a photo by E, and what belongs to its original by O: IMG_O1234.AAE.
_APPLE_MARKED: Final = re.compile(r"(?P<prefix>[A-Z]{3}_)(?P<mark>[EO])(?P<number>\d{4}.*)", re.DOTALL | re.IGNORECASE)
_MARK_PLACE: Final = 4
_APPLE_EXTENSIONS: Final = frozenset({"aae", "mov"})
_PLACEHOLDERS: Final = re.compile(r"(\{base\}|\{file\}|\*|\?)")


@dataclass(frozen=True, slots=True)
class Fit:
    """One photo that a file may belong to, if there is such a photo.

    Attributes:
        path: the file, below its project's folder.
        base_name: the photo's base name; if `is_cut`, only its beginning, with Takeout's number behind it.
        after: what follows the photo's base name once the file is renamed with its photo.
        before: what precedes it.
        is_cut: whether `base_name` is only the beginning of the photo's name.
        mark: what the file's name has within the photo's base name, behind its first four characters.
    """

    path: str
    base_name: str
    after: str
    before: str = ""
    is_cut: bool = False
    mark: str = ""

    @property
    def key(self) -> str:
        """The key that this fit shares with its photo; see `owner_keys`."""
        return _cut_key(self.base_name) if self.is_cut else name_key(self.base_name)

    def renamed(self, new: str, *, old: str) -> str:
        """The path of the file once the base name of its photo changes from `old` to `new`.

        A name that Takeout cut or numbered becomes one that needs no such rule.
        """
        is_plain = not self.is_cut and f"{self.before}{self.base_name}{self.after}" == self.path
        if new == old and not is_plain:
            return self.path
        if self.mark:
            new = new[:_MARK_PLACE] + self.mark + new[_MARK_PLACE:]
        return f"{self.before}{new}{self.after}"


def owner_keys(base_name: str) -> tuple[str, ...]:
    """The keys under which the files that may belong to a photo find it."""
    key = name_key(base_name)
    if len(base_name) < _TAKEOUT_CHARACTERS:
        return (key,)
    cut = _cut_key(base_name[:_TAKEOUT_CHARACTERS])
    numbered = _NUMBERED.fullmatch(base_name)
    # The number may be Takeout's own, or part of the title.
    if numbered is None or len(numbered["title"]) < _TAKEOUT_CHARACTERS:
        return (key, cut)
    return (key, _cut_key(numbered["title"][:_TAKEOUT_CHARACTERS] + numbered["number"]), cut)


class CompanionNames:
    """Finds the photos that a file may belong to by its name.

    Args:
        photo_extensions: those that make a file an image of a photo, in lower case, without the dot.
        patterns: further names, such as `{base}-edit.psd` or `Edits/{file}.*`: `{base}` is a photo's base name,
            `{file}` the name of one of its images, `*` any text without `/`, `?` one character.

    Raises:
        ValueError: a pattern is not of this form.
    """

    def __init__(self, photo_extensions: Collection[str], patterns: Sequence[str] = ()) -> None:
        self._extensions = photo_extensions
        self._beginnings = {extension[:length] for extension in photo_extensions for length in range(len(extension))}
        self._patterns = [(pattern, _compiled(pattern)) for pattern in (*patterns, *FOLDER_PATTERNS)]
        #: The folders that companions may be in: the parts of their paths below a project's folder, `*` being any text.
        self.folders = tuple(
            dict.fromkeys(tuple(pattern.split("/")[:-1]) for pattern, _ in self._patterns if "/" in pattern)
        )

    def fits(self, path: str) -> list[Fit]:
        """The photos that a file may belong to, best first; the path is relative to the project's folder."""
        found = [] if "/" in path else list(self._by_name(path))
        for pattern, compiled in self._patterns:
            match = compiled.fullmatch(path) if ("/" in pattern) == ("/" in path) else None
            if match is None:
                continue
            base_name = match["name"] if "{base}" in pattern else self._base_name(match["name"])
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
            # Never the photo without the number: the number says that it is another one's.
            yield Fit(name, stem, f".{extension}")
            yield from self._takeout(name, numbered["title"], numbered["number"])
            return
        yield from self._of_image(name)
        # The movie of a motion photo has its whole base name and nothing more: PXL_1.MP beside PXL_1.MP.jpg.
        yield Fit(name, name, "")
        yield Fit(name, stem, f".{extension}")
        if is_json:
            yield from self._takeout(name, stem, "")
        elif extension.lower() in _APPLE_EXTENSIONS:
            marked = _APPLE_MARKED.fullmatch(stem)
            if marked is not None:
                base_name = marked["prefix"] + marked["number"]
                yield Fit(name, base_name, f".{extension}", mark=marked["mark"])
        elif extension.lower() == "xmp":
            version = _DARKTABLE_VERSION.fullmatch(self._base_name(stem) or "")
            if version is not None:
                yield Fit(name, version["base"], name[len(version["base"]) :])

    def _of_image(self, name: str) -> Iterator[Fit]:
        """The photos of images with whose whole name this name begins, the longest first."""
        end = len(name)
        while (end := name.rfind(".", 0, end)) > 0:
            base_name = self._base_name(name[:end])
            if base_name is not None:
                yield Fit(name, base_name, name[len(base_name) :])

    def _takeout(self, name: str, title: str, number: str) -> Iterator[Fit]:
        """The photos whose metadata Takeout wrote under a name that it numbered or cut."""
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

    def _base_name(self, name: str) -> str | None:
        """The base name of an image of a photo, or None for any other name."""
        stem, _, extension = name.rpartition(".")
        return stem if stem and extension.lower() in self._extensions else None


def _cut_key(text: str) -> str:
    # No name can hold NUL, so this is no photo's name.
    return f"\0{name_key(text)}"


def _compiled(pattern: str) -> re.Pattern[str]:
    parts = pattern.split("/")
    placeholders = [part for part in _PLACEHOLDERS.findall(pattern) if part.startswith("{")]
    if len(placeholders) != 1 or placeholders[0] not in parts[-1]:
        raise ValueError(f"{pattern!r} needs exactly one of {{base}} and {{file}}, in the name of the file")
    if len(parts) > MAX_FOLDERS + 1 or any(not part or part.startswith(".") or "\\" in part for part in parts):
        raise ValueError(f"{pattern!r} must name a file, at most {MAX_FOLDERS} folders deep, and nothing hidden")
    if pattern == placeholders[0]:
        raise ValueError(f"{pattern!r} would make every file the companion of a photo")
    texts = {"{base}": "(?P<name>[^/]+)", "{file}": "(?P<name>[^/]+)", "*": "[^/]*", "?": "[^/]"}
    regex = "".join(texts.get(part, re.escape(part)) for part in _PLACEHOLDERS.split(pattern))
    return re.compile(regex, re.DOTALL | re.IGNORECASE)
