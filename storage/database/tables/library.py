"""The tables of the library: projects, photos and their tags, originals and derivatives."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.database.column_types import Identifier, JsonDocument, UtcTimestamp
from storage.database.tables.schema import integer, metadata, partial_index, reference
from storage.default_tenant import DEFAULT_TENANT

#: The index that keeps folder names unique among the projects of a tenant.
TENANT_FOLDER_INDEX = "uq_projects_tenant_folder"

projects = Table(
    "projects",
    metadata,
    Column(
        "id", Identifier, primary_key=True, comment="The project's number, as in the manifest in the project's folder."
    ),
    Column(
        "project_folder",
        Text,
        nullable=False,
        comment="The name of the project's folder in the tenant's folder, unique within the tenant; in an SQLite file"
        " of another program, unique among all tenants.",
    ),
    Column("project_name", Text, nullable=False, comment="The project's name for people."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the row was written."),
    Column("updated_at", UtcTimestamp, nullable=False, comment="When the row was last changed."),
    Column("schema_version", Text, comment="Kept for other programs."),
    Column("status", Text, comment="NULL if the project is active, `canceled` if it is archived."),
    Column("archived_at", UtcTimestamp, comment="When the project was archived."),
    Column(
        "manifest_version",
        Text,
        server_default=text("'1.0'"),
        comment="The format version of the manifest in the folder.",
    ),
    # photojobs added this column. The columns above are from earlier programs.
    Column("tenant_id", Text, comment="The tenant that the project belongs to; NULL is the default tenant, `user_0`."),
    Index("idx_projects_status", "status"),
    Index("idx_projects_folder", "project_folder"),
    # In the SQLite files of other programs, `project_folder` itself is unique instead.
    Index(TENANT_FOLDER_INDEX, text(f"coalesce(tenant_id, '{DEFAULT_TENANT}')"), "project_folder", unique=True),
    sqlite_autoincrement=True,
    comment="A project: a folder of the library with its photos.",
)

photos = Table(
    "photos",
    metadata,
    Column(
        "id",
        Identifier,
        primary_key=True,
        comment="The photo's number; `job_items.photo_id` and `task_items.photo_id` name it.",
    ),
    reference("project_id", "projects", ondelete="CASCADE", comment="The project whose folder has the photo's files."),
    Column("manifest_id", Text, unique=True, comment="A unique id that other programs use."),
    Column("filename", Text, nullable=False, comment="The base name of the photo's files, without extension."),
    Column("basename", Text, comment="The base name as other programs wrote it."),
    Column("ext", Text, comment="The extension of the photo's first file."),
    Column("created_at", UtcTimestamp, nullable=False, comment="When the row was written."),
    Column("updated_at", UtcTimestamp, nullable=False, comment="When the row was last changed."),
    Column("date_time_original", Text, comment="When the photo was taken, from its metadata, as text."),
    integer("jpg_available", default=0, comment="1 if a JPEG is in the folder, else 0."),
    integer("raw_available", default=0, comment="1 if a RAW file is in the folder, else 0."),
    integer("other_available", default=0, comment="1 if a file of another accepted kind is in the folder, else 0."),
    integer("keep_jpg", default=1, comment="0 if the next step file_removal removes the JPEG, else 1."),
    integer("keep_raw", default=1, comment="0 if the next step file_removal removes the RAW file, else 1."),
    Column(
        "thumbnail_status",
        Text,
        comment="The state of the thumbnail: NULL, pending, generated, failed, missing or not_supported.",
    ),
    Column(
        "preview_status",
        Text,
        comment="The state of the preview: NULL, pending, generated, failed, missing or not_supported.",
    ),
    Column("orientation", Integer, comment="EXIF orientation, 1 to 8."),
    Column("meta_json", JsonDocument, comment="A JSON object: make, model, size, and values of other programs."),
    Column(
        "visibility",
        Text,
        nullable=False,
        server_default=text("'private'"),
        comment="For other programs; new photos are private.",
    ),
    Index("idx_photos_project_filename", "project_id", "filename"),
    Index("idx_photos_project_date", "project_id", "date_time_original"),
    Index("idx_photos_date", text("date_time_original DESC"), text("created_at DESC"), text("id DESC")),
    # A project's photos are read in batches, in order of id. Without this index, each batch would sort all photos.
    Index("idx_photos_project_id", "project_id", "id"),
    sqlite_autoincrement=True,
    comment="A photo: a base name with one or more files in a project's folder.",
)

#: The condition that a photo has a file that a user has marked for removal (keep flag 0).
IS_PENDING_DELETION = ((photos.c.jpg_available == 1) & (photos.c.keep_jpg == 0)) | (
    (photos.c.raw_available == 1) & (photos.c.keep_raw == 0)
)

tags = Table(
    "tags",
    metadata,
    Column("id", Identifier, primary_key=True, comment="The tag's number."),
    reference("project_id", "projects", ondelete="CASCADE", comment="The project that the tag belongs to."),
    Column("name", Text, nullable=False, comment="The tag's name, unique in the project."),
    UniqueConstraint("project_id", "name"),
    comment="A tag of a project.",
)

photo_tags = Table(
    "photo_tags",
    metadata,
    reference("photo_id", "photos", ondelete="CASCADE", comment="The photo."),
    reference("tag_id", "tags", ondelete="CASCADE", comment="The tag, one of the photo's project."),
    PrimaryKeyConstraint("photo_id", "tag_id"),
    Index("idx_photo_tags_tag", "tag_id"),
    comment="A tag on a photo.",
)

photo_derivatives = Table(
    "photo_derivatives",
    metadata,
    reference("photo_id", "photos", ondelete="CASCADE", comment="The photo."),
    Column("kind", Text, nullable=False, comment="thumbnail, preview or metadata."),
    Column("source_name", Text, nullable=False, comment="The original that was read, also if reading it failed."),
    Column(
        "source_hash",
        Text,
        comment="The content hash of the original when it was read; NULL if it had no hash yet.",
    ),
    Column("width", Integer, comment="The width of the derivative in pixels."),
    Column("height", Integer, comment="The height of the derivative in pixels."),
    Column("size_bytes", BigInteger, comment="The size of the derivative's file."),
    Column("generated_at", UtcTimestamp, nullable=False, comment="When the derivative was made, or the metadata read."),
    PrimaryKeyConstraint("photo_id", "kind"),
    comment="A derivative or the metadata of a photo, with the original that it comes from.",
)

photo_originals = Table(
    "photo_originals",
    metadata,
    reference("photo_id", "photos", ondelete="CASCADE", comment="The photo."),
    Column("name", Text, nullable=False, comment="The file's name in the project's folder."),
    Column("kind", Text, nullable=False, comment="jpg, raw or other."),
    Column("size_bytes", BigInteger, comment="The file's size."),
    Column("mtime_ns", BigInteger, comment="When the contents were last modified, in nanoseconds since 1970."),
    Column(
        "ctime_ns",
        BigInteger,
        comment="When the contents or the inode last changed, in nanoseconds since 1970; NULL if unknown.",
    ),
    Column(
        "content_hash",
        Text,
        comment="A hash of the contents, as algorithm:hexadecimal; NULL if the file was never fully read.",
    ),
    Column("hashed_at", UtcTimestamp, comment="When `content_hash` was first computed."),
    Column("verified_at", UtcTimestamp, comment="When the contents were last read and had the hash `content_hash`."),
    Column("missing_since", UtcTimestamp, comment="When the file was found missing; NULL if it exists."),
    Column(
        "checked_at",
        UtcTimestamp,
        comment="When the contents were last read, or could not be read; NULL if never.",
    ),
    Column(
        "corrupt_since",
        UtcTimestamp,
        comment="When different contents with the same size and times were first found; NULL if never.",
    ),
    Column("corrupt_hash", Text, comment="The hash of the different contents; see `corrupt_since`."),
    PrimaryKeyConstraint("photo_id", "name"),
    # The originals that were read longest ago are verified next.
    Index("idx_photo_originals_checked", "checked_at", "photo_id", "name"),
    # A new file is compared only with originals of the same size, to find the photo that it belongs to.
    partial_index("idx_photo_originals_size", "content_hash IS NOT NULL", "size_bytes"),
    partial_index("idx_photo_originals_corrupt", "corrupt_since IS NOT NULL", "photo_id", "name"),
    sqlite_with_rowid=False,
    comment="An image file of a photo, as it was when it was last checked.",
)
