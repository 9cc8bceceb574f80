"""Creates random libraries with all kinds of faults, and reads their files and rows for comparisons."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import select

from flows.imaging.fingerprint import take_fingerprint
from flows.imaging.pixels.vips import load_vips
from flows.process.runtime import Runtime
from flows.steps.images.observation import first_seen, with_fingerprint
from storage import Database, PhotosRepository, ProjectsRepository
from storage.database.clock import format_timestamp
from storage.database.tables import metadata, photo_derivatives, photo_tags, photos, projects, tags
from storage.history.journal import FileAction, FileChange, write_journal
from storage.history.row_snapshots import snapshot_project
from storage.library.manifest import Manifest, write_manifest
from storage.library.scan import scan
from storage.library.trash import move_to_trash, parse_trash_name
from storage.photos.originals import OriginalsRepository
from storage.settings import Settings
from storage.shadow.row_changes import MOMENTS

#: The moment at which the clock of every database in these tests stands.
NOW = datetime(2025, 10, 1, 12, tzinfo=UTC)

#: Columns of a derivative whose values are known only after it was made.
_MADE_WITH_IT = {"width", "height", "size_bytes", "source_hash"}


@dataclass(frozen=True)
class PhotoSpec:
    """A photo of a random library: its files, and the values of its row, if it has one."""

    name: str
    files: tuple[str, ...] = ("jpg",)
    content: str = "picture"
    has_row: bool = True
    is_row_right: bool = True
    keep_jpg: int = 0
    keep_raw: int = 0
    status: str | None = None
    has_derivatives: bool = False
    is_tagged: bool = False
    #: What a user did with the files by hand: moved them to the next project, with or without a new name, renamed them
    #: in place, or copied them to the next project.
    by_hand: str | None = None


@dataclass(frozen=True)
class ProjectSpec:
    """A project of a random library."""

    name: str
    folder: str
    state: str = "active"
    manifest: str = "right"
    photos: tuple[PhotoSpec, ...] = ()
    others: tuple[str, ...] = ()
    trash: tuple[str, ...] = ()


@dataclass(frozen=True)
class LibrarySpec:
    """A random library: projects, and folders without a project."""

    projects: tuple[ProjectSpec, ...]
    loose: tuple[tuple[str, int | None, tuple[str, ...]], ...] = field(default=())


_NAMES = st.sampled_from(["IMG_1", "IMG_2", "img_1", "IMG_1_duplicate1", "Ünï cöde"])
_photos = st.builds(
    PhotoSpec,
    name=_NAMES,
    files=st.lists(
        st.sampled_from(["jpg", "NEF", "png", "xmp", "jpg.xmp", "AAE", "MOV", "jpg.json"]), unique=True, max_size=3
    ).map(tuple),
    content=st.sampled_from(["picture", "picture", "dated", "rubbish", "empty"]),
    has_row=st.booleans(),
    is_row_right=st.booleans(),
    keep_jpg=st.integers(0, 1),
    keep_raw=st.integers(0, 1),
    status=st.sampled_from([None, "pending", "generated", "failed", "missing"]),
    has_derivatives=st.booleans(),
    is_tagged=st.booleans(),
    by_hand=st.sampled_from([None, None, "moved", "moved and renamed", "renamed", "copied"]),
)


@st.composite
def libraries(draw: st.DrawFn) -> LibrarySpec:
    """Draw a library of a few projects and folders with any faults."""
    names = draw(st.lists(st.sampled_from(["Iceland", "Alps", "iceland", "A/B"]), min_size=1, max_size=3, unique=True))
    made = []
    for number, name in enumerate(names):
        made.append(
            ProjectSpec(
                name=name,
                folder=draw(st.sampled_from([name.replace("/", "-"), f"import {number}"])),
                state=draw(
                    st.sampled_from(["active", "active", "active", "gone", "unmounted", "archived", "archived as gone"])
                ),
                manifest=draw(st.sampled_from(["right", "right", "none", "wrong", "rubbish"])),
                photos=tuple(draw(st.lists(_photos, max_size=4, unique_by=lambda photo: photo.name))),
                others=tuple(
                    draw(st.lists(st.sampled_from(["film.mp4", "link", "folder", "pipe", ".hidden"]), max_size=2))
                ),
                trash=tuple(draw(st.lists(st.sampled_from(["old", "fresh", "strange", "folder"]), max_size=3))),
            )
        )
    folders = st.tuples(
        st.sampled_from(["Iceland", "Norway", "import 0", "import 1"]),
        st.sampled_from([None, 1, 2, 99]),
        st.lists(st.sampled_from(["IMG_1.jpg", "IMG_7.jpg"]), max_size=2, unique=True).map(tuple),
    )
    loose = draw(st.lists(folders, max_size=2, unique_by=lambda folder: folder[0]))
    # A folder belongs to at most one project of a tenant.
    taken: set[str] = set()
    unique = []
    for project in made:
        if project.folder not in taken:
            taken.add(project.folder)
            unique.append(project)
    return LibrarySpec(tuple(unique), tuple(folder for folder in loose if folder[0] not in taken))


def picture(**exif: str) -> bytes:
    image = load_vips().Image.black(40, 30, bands=3).linear([1, 1, 1], [120, 80, 200]).cast("uchar")
    image = image.copy(interpretation="srgb")
    for name, value in exif.items():
        text = f"{value} ({value}, ASCII, {len(value) + 1} components, {len(value) + 1} bytes)"
        image.set_type(load_vips().GValue.gstr_type, f"exif-ifd2-{name}", text)
    written: bytes = image.jpegsave_buffer()
    return written


class World:
    """A random library on disk with its database; methods return the state of both."""

    def __init__(self, folder: Path, database: Database, contents: dict[str, bytes], **settings: Any) -> None:
        self.root = folder / "library"
        self.database = database
        self.runtime = Runtime(
            database,
            settings=Settings.load(
                library_root=self.root,
                concurrency=2,
                heartbeat_seconds=5,
                image_isolation=False,
                retry_delay_seconds=0,
                # Otherwise a file could be too new for the plan, but old enough for the later run.
                settle_seconds=0,
                **{"rename_user_files": "rename", **settings},
            ),
        )
        self.library = self.runtime.library
        self._contents = contents

    def close(self) -> None:
        """Close the runtime and the database."""
        self.runtime.close()

    def build(self, spec: LibrarySpec) -> None:
        """Create the library and its rows."""
        (self.root / "tenant").mkdir(parents=True)
        (self.root / "other").mkdir()
        ProjectsRepository(self.database).create(project_name="Other", project_folder="other", tenant_id="other")
        for project in spec.projects:
            self._build_project(project)
        for number, project in enumerate(spec.projects):
            self._act_by_hand(project, spec.projects[(number + 1) % len(spec.projects)])
        for name, identity, files in spec.loose:
            folder = self.library.project("tenant", name)
            folder.path.mkdir()
            for file in files:
                (folder.path / file).write_bytes(self._contents["picture"])
            if identity is not None:
                write_manifest(folder, Manifest(name=name, id=identity, created_at="2024-01-01"), at=NOW)

    def _build_project(self, spec: ProjectSpec) -> None:
        repository = ProjectsRepository(self.database)
        row = repository.create(project_name=spec.name, project_folder=spec.folder, tenant_id="tenant")
        folder = self.library.project("tenant", spec.folder)
        folder.create()
        for photo in spec.photos:
            self._build_photo(row.id, folder, photo)
        for other in spec.others:
            path = folder.path / other
            if other == "link":
                target = self.root / "other"
                path = path.with_suffix(".jpg")
                if not path.is_symlink():
                    path.symlink_to(target)
            elif other == "folder":
                path.mkdir(exist_ok=True)
                (path / "inner.jpg").write_bytes(b"inner")
            elif other == "pipe":
                if not path.exists():
                    os.mkfifo(path)
            else:
                path.write_bytes(other.encode())
        for number, kind in enumerate(spec.trash):
            self._build_trash(folder, kind, number)
        created_at = format_timestamp(row.created_at)
        if spec.manifest == "rubbish":
            (folder.path / ".project.yaml").write_text("[")
        elif spec.manifest != "none":
            name = spec.name if spec.manifest == "right" else "Wrong"
            write_manifest(folder, Manifest(name=name, id=row.id, created_at=created_at), at=NOW)
        if spec.state in ("gone", "unmounted", "archived as gone"):
            shutil.rmtree(folder.path)
        if spec.state == "unmounted":
            folder.path.mkdir()
        if spec.state == "archived":
            repository.archive(row.id)
        elif spec.state == "archived as gone":
            with self.database.begin() as connection:
                snapshot = snapshot_project(connection, row.id)
                ProjectsRepository(connection).archive(row.id)
                change = FileChange(
                    action=FileAction.ARCHIVED_AS_GONE, source=spec.folder, project_id=row.id, row=snapshot
                )
                write_journal(connection, [change], tenant_id="tenant", task_id="before", job_id=None, now=NOW)

    def _build_photo(self, project_id: int, folder: Any, spec: PhotoSpec) -> None:
        kinds = set()
        for extension in spec.files:
            content = self._contents[spec.content]
            # A moved file is recognized by its contents, which are mostly not those of another photo.
            own = f"{project_id}/{spec.name}".encode() if spec.by_hand and spec.content != "empty" else b""
            (folder.path / f"{spec.name}.{extension}").write_bytes(content + own)
            kinds.add(str(self.library.accepted_extensions.describe(f"{spec.name}.{extension}").kind))
        if spec.has_derivatives:
            folder.thumbnail(spec.name).write_bytes(b"thumbnail")
            folder.preview_image(spec.name).write_bytes(b"" if spec.keep_jpg else b"preview")
        if not spec.has_row:
            return
        if not spec.is_row_right:
            kinds ^= {"jpg"}
        columns = {f"{kind}_available": int(kind in kinds) for kind in ("jpg", "raw", "other")}
        columns |= {"keep_jpg": spec.keep_jpg, "keep_raw": spec.keep_raw}
        [photo_id] = PhotosRepository(self.database).create_many(
            [
                {
                    "project_id": project_id,
                    "filename": spec.name,
                    "thumbnail_status": spec.status,
                    "preview_status": spec.status,
                    **columns,
                }
            ]
        )
        if spec.by_hand is not None:
            OriginalsRepository(self.database).save_many(
                [
                    with_fingerprint(first_seen(photo_id, file), take_fingerprint(folder.path / file.name), now=NOW)
                    for file in scan(folder)
                    if file.base_name == spec.name and file.kind.is_photo and file.size_bytes
                ]
            )
        if spec.is_tagged:
            with self.database.begin() as connection:
                tag = tags.insert().values(project_id=project_id, name=f"tag {photo_id}").returning(tags.c.id)
                tag_id = connection.execute(tag).scalar_one()
                connection.execute(photo_tags.insert().values(photo_id=photo_id, tag_id=tag_id))

    def _act_by_hand(self, spec: ProjectSpec, following: ProjectSpec) -> None:
        source, target = (self.library.project("tenant", one.folder).path for one in (spec, following))
        for photo in spec.photos if source.exists() and target.exists() else ():
            for extension in photo.files if photo.by_hand else ():
                name = f"by hand {spec.folder} {photo.name}" if "named" in str(photo.by_hand) else photo.name
                old = source / f"{photo.name}.{extension}"
                new = (source if photo.by_hand == "renamed" else target) / f"{name}.{extension}"
                if old.exists() and not new.exists():
                    (shutil.copy2 if photo.by_hand == "copied" else shutil.move)(old, new)

    def _build_trash(self, folder: Any, kind: str, number: int) -> None:
        if kind == "strange":
            (folder.trash / f"strange {number}.jpg").write_bytes(b"put here by hand")
        elif kind == "folder":
            (folder.trash / f"folder {number}").mkdir()
            (folder.trash / f"folder {number}" / "inner.jpg").write_bytes(b"inner")
        else:
            file = folder.path / f"thrown {number}.jpg"
            file.write_bytes(b"thrown away")
            move_to_trash(folder, file, at=NOW - timedelta(days=3 if kind == "old" else 0, hours=1))

    def photo_ids(self) -> list[int]:
        """Return the ids of the photos in the tenant's active projects."""
        statement = (
            select(photos.c.id)
            .join(projects, projects.c.id == photos.c.project_id)
            .where(projects.c.tenant_id == "tenant", projects.c.status.is_(None))
            .order_by(photos.c.id)
        )
        with self.database.connect() as connection:
            return list(connection.execute(statement).scalars())

    def everything(self) -> dict[str, Any]:
        """Return every file with all its properties except the access time, and every row of every table."""
        found: dict[str, Any] = {}
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            told = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            is_file = path.is_file() and not path.is_symlink()
            found[str(path)] = (*told, path.read_bytes() if is_file else None)
        with self.database.connect() as connection:
            for table in metadata.sorted_tables:
                found[table.name] = [tuple(row) for row in connection.execute(select(table)).all()]
        return found


def outcome(root: Path, database: Database) -> dict[str, Any]:
    """Return what must be equal for a run and its plan: names, kinds and sizes of files, and rows without moments."""
    files = []
    for path in root.rglob("*"):
        place = path.relative_to(root)
        parts = [_plain(part) for part in place.parts]
        is_made = ".thumb" in parts or ".preview" in parts or parts[-1] == ".project.yaml"
        is_file = path.is_file() and not path.is_symlink()
        size = 0 if not is_file else min(1, path.stat().st_size) if is_made else path.stat().st_size
        files.append(("/".join(part for part in parts if part), path.is_dir(), path.is_symlink(), size))
    rows: dict[str, Any] = {}
    with database.connect() as connection:
        for table in (projects, photos, tags, photo_tags, photo_derivatives):
            dull = MOMENTS | (_MADE_WITH_IT if table is photo_derivatives else set())
            rows[table.name] = sorted(
                (
                    tuple((name, value) for name, value in row.items() if name not in dull)
                    for row in connection.execute(select(table)).mappings()
                ),
                key=repr,
            )
            moments = [column.name for column in table.columns if column.name == "archived_at"]
            rows[f"{table.name} moments"] = sorted(
                repr([row[name] is not None for name in moments])
                for row in connection.execute(select(table)).mappings()
            )
    return {"files": sorted(files), **rows}


def _plain(name: str) -> str:
    parsed = parse_trash_name(name)
    return name if parsed is None else parsed.original_name
