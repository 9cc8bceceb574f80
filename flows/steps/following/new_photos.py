"""Inserts rows for new photos.

A photo gets its row as soon as its file is seen, even if another program is still writing the file. Post-processing
fails for an incomplete picture, and runs again after the file has changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.handlers.step_context import StepContext
from storage.comparison.part_comparison import NewName
from storage.comparison.reconciliation import known_names
from storage.photos.photos import PhotosRepository
from storage.records import Project


def add_rows(ctx: StepContext, project: Project, names: Sequence[NewName]) -> None:
    """Insert the rows of new photos, and request their post-processing. The caller must hold the project."""
    if not names:
        return
    with ctx.transaction(enqueues=True) as connection:
        # The program that uploaded the files may have inserted their rows since the scan.
        known = known_names(connection, project.id, [new.name for new in names])
        fresh = [new for new in names if new.name not in known]
        ids = PhotosRepository(connection).create_many(
            {
                "project_id": project.id,
                "filename": new.name,
                "ext": new.extension,
                "jpg_available": new.jpg,
                "raw_available": new.raw,
                "other_available": new.other,
                "keep_jpg": new.jpg,
                "keep_raw": new.raw,
                "thumbnail_status": "pending",
                "preview_status": "pending",
            }
            for new in fresh
        )
        ctx.enqueue("upload_postprocess", photo_ids=ids, priority=90, connection=connection)
        ctx.journal_added(connection, project, dict(zip(ids, (new.name for new in fresh), strict=True)))
    for new in fresh:
        ctx.report.count("added", example=new.name)
