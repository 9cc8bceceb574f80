"""Finds out how a folder of photographs fits the layout `<root>/<tenant>/<project>/`; changes nothing.

`deployments.library.library_setup` creates the projects by the definition `folder_discovery`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deployments.errors import DeploymentsError
from storage.library.naming.ignored_names import IgnoredNames
from storage.library.naming.kinds import MANIFEST_NAME, AcceptedExtensions
from storage.library.naming.names import printable, unsafe_reason
from storage.library.paths import absolute_path

#: The largest number of names in a note about several files or folders; a survey itself has all names.
EXAMPLES = 5


class NotALibrary(DeploymentsError):
    """A folder cannot be used as a library, or cannot be read; the message says what to do."""


class Layout(StrEnum):
    """The role of a folder, which follows from the depth of its photographs.

    LIBRARY: the folder contains `<tenant>/<project>/`. TENANT: the folder contains projects; its parent is the root of
    the library. PROJECT: the photographs are directly in the folder; the parent of its parent is the root.
    """

    LIBRARY = "library"
    TENANT = "tenant"
    PROJECT = "project"


#: The depth of the photographs below the folder, for each layout.
_DEPTHS = {Layout.PROJECT: 0, Layout.TENANT: 1, Layout.LIBRARY: 2}

#: Folders and files of storage systems, such as recycle bins, which are no projects and no photographs.
_IGNORED = IgnoredNames()

#: If several layouts fit equally well, the first of them here is chosen: the most common one.
_PREFERENCE = (Layout.TENANT, Layout.LIBRARY, Layout.PROJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundProject:
    """A folder that can be a project."""

    tenant_id: str
    folder: str
    photos: int
    other_files: int
    has_manifest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySurvey:
    """The result of a survey.

    Attributes:
        folder: the surveyed folder.
        root: the library's root, for the setting `library_root`.
        loose: photographs above the projects, which photojobs does not read.
        deeper: photographs below the projects' folders, which photojobs does not read either.
        unreadable: folders that cannot be listed.
        unsafe: folders whose names no project can have, each with the reason.
        sharing: a text for each group of pictures of the same kind and base name, which count as one photo.
        neighbors: the other projects of the tenant, if the surveyed folder is a project.
    """

    folder: Path
    root: Path
    layout: Layout
    projects: tuple[FoundProject, ...]
    loose: tuple[str, ...]
    deeper: tuple[str, ...]
    unreadable: tuple[str, ...]
    unsafe: tuple[str, ...]
    sharing: tuple[str, ...]
    neighbors: tuple[str, ...]

    @property
    def tenant_ids(self) -> tuple[str, ...]:
        """The tenants that have projects."""
        return tuple(sorted({project.tenant_id for project in self.projects}))

    @property
    def photos(self) -> int:
        """The number of image files in the projects; a JPEG and its RAW file count as two."""
        return sum(project.photos for project in self.projects)


def survey_library(folder: Path, kinds: AcceptedExtensions, *, layout: Layout | None = None) -> LibrarySurvey:
    """Survey a folder; `kinds` decides which files are photographs.

    The folder's path may contain symlinks, but symlinks inside the folder are not followed. By default, the
    layout is the one that fits most of the manifests or, without manifests, most of the photographs.

    Raises:
        NotALibrary: the folder is missing or unreadable, or the library's root would be the root of the file system.
    """
    folder = absolute_path(folder)
    if not folder.is_dir():
        raise NotALibrary(f"{folder} is not a folder. Create it, or name another folder.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise NotALibrary(f"{folder} cannot be read. Correct its permissions, or name another folder.")
    layout = layout or _layout_of(folder, kinds)
    root = {Layout.LIBRARY: folder, Layout.TENANT: folder.parent, Layout.PROJECT: folder.parent.parent}[layout]
    if root == Path(root.anchor):
        raise NotALibrary(
            f"{folder} cannot be used: as a {layout} folder, its library would be {root}, the whole disk. Move the "
            f"photographs into folders like LIBRARY/user_0/{folder.name or 'Photos'}/photo.jpg, and run "
            "`photojobs init LIBRARY`."
        )
    return _Survey(folder, root, layout, kinds).made()


class _Survey:
    def __init__(self, folder: Path, root: Path, layout: Layout, kinds: AcceptedExtensions) -> None:
        self._folder, self._root, self._layout, self._kinds = folder, root, layout, kinds
        self._projects: list[FoundProject] = []
        self._loose: list[str] = []
        self._deeper: list[str] = []
        self._unreadable: list[str] = []
        self._unsafe: list[str] = []
        self._sharing: list[str] = []

    def made(self) -> LibrarySurvey:
        if self._layout is Layout.LIBRARY:
            self._loose += self._photos_in(self._root)
            tenants = [self._root / name for name in self._folders_in(self._root)]
        else:
            tenants = [self._folder if self._layout is Layout.TENANT else self._folder.parent]
        for tenant in tenants:
            self._look_at_tenant(tenant)
        is_project = self._layout is Layout.PROJECT
        return LibrarySurvey(
            folder=self._folder,
            root=self._root,
            layout=self._layout,
            projects=tuple(sorted(self._projects, key=lambda one: (one.tenant_id, one.folder))),
            loose=tuple(sorted(self._loose)),
            deeper=tuple(sorted(self._deeper)),
            unreadable=tuple(sorted(self._unreadable)),
            unsafe=tuple(sorted(self._unsafe)),
            sharing=tuple(sorted(self._sharing)),
            neighbors=tuple(
                sorted(one.folder for one in self._projects if is_project and one.folder != self._folder.name)
            ),
        )

    def _look_at_tenant(self, tenant: Path) -> None:
        self._loose += self._photos_in(tenant)
        for name in self._folders_in(tenant):
            project = tenant / name
            found = self._photos_in(project)
            files = list(_names(project, is_folder=False, unreadable=[]))
            self._note_sharing(project, files)
            for below in self._folders_in(project):
                self._deeper += self._photos_below(project / below)
            self._projects.append(
                FoundProject(
                    tenant_id=tenant.name,
                    folder=name,
                    photos=len(found),
                    other_files=sum(not each.startswith(".") for each in files) - len(found),
                    has_manifest=MANIFEST_NAME in files,
                )
            )

    def _note_sharing(self, project: Path, files: list[str]) -> None:
        photos: dict[tuple[str, str], list[str]] = {}
        for name in files:
            described = self._kinds.describe(name)
            if described.kind.is_photo:
                photos.setdefault((described.base_name, described.kind), []).append(name)
        for names in photos.values():
            if len(names) > 1:
                self._sharing.append(f"{printable(project.name)}: {printable(', '.join(sorted(names)))}")

    def _folders_in(self, folder: Path) -> Iterator[str]:
        for name in _names(folder, is_folder=True, unreadable=self._unreadable):
            reason = unsafe_reason(name)
            if reason is None:
                yield name
            elif not name.startswith("."):
                self._unsafe.append(f"{printable(str(folder / name))}: {reason}")

    def _photos_in(self, folder: Path) -> list[str]:
        names = _names(folder, is_folder=False, unreadable=self._unreadable)
        return [printable(str(folder / name)) for name in names if self._kinds.describe(name).kind.is_photo]

    def _photos_below(self, folder: Path) -> Iterator[str]:
        yield from self._photos_in(folder)
        for name in self._folders_in(folder):
            yield from self._photos_below(folder / name)


def _layout_of(folder: Path, kinds: AcceptedExtensions) -> Layout:
    """Return the layout at whose depth there are the most manifests; without manifests, the most photographs.

    An empty folder is a new library.
    """
    manifests: Counter[int] = Counter()
    photos: Counter[int] = Counter()
    level = [folder]
    for depth in _DEPTHS.values():
        below = []
        for each in level:
            for name in _names(each, is_folder=False, unreadable=[]):
                manifests[depth] += name == MANIFEST_NAME
                photos[depth] += kinds.describe(name).kind.is_photo
            below += [each / name for name in _names(each, is_folder=True, unreadable=[]) if not name.startswith(".")]
        level = below
    for counted in (manifests, photos):
        if counted.total():
            most = max(counted.values())
            return next(each for each in _PREFERENCE if counted[_DEPTHS[each]] == most)
    return Layout.LIBRARY


def _names(folder: Path, *, is_folder: bool, unreadable: list[str]) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_wanted = entry.is_dir(follow_symlinks=False) if is_folder else entry.is_file(follow_symlinks=False)
                if is_wanted and entry.name not in _IGNORED:
                    yield entry.name
    except OSError as error:
        shown = f"{printable(str(folder))}: {error.strerror}"
        if shown not in unreadable:
            unreadable.append(shown)
