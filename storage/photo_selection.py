"""A selection of photos by what is known of them, so that nobody has to list their ids."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from sqlalchemy import Select, exists, or_, select

from storage.project_labels import id_in_label
from storage.step_jobs import is_active, of_tenant
from storage.tables import photo_tags, photos, projects, tags


class PhotoSelection(BaseModel):
    """Which photos of a tenant's active projects; every criterion that is given must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_photo: bool = Field(
        default=False,
        title="Every photo",
        description="All photos of the tenant; it stands by itself, and says the same as no criterion at all.",
    )
    project_ids: tuple[Annotated[int, BeforeValidator(id_in_label)], ...] = Field(
        default=(), title="Projects", description="Only photos of these projects; empty means all."
    )
    tags: tuple[str, ...] = Field(default=(), title="Tags", description="Only photos with at least one of these tags.")
    taken_from: date | None = Field(
        default=None, title="Taken from", description="Only photos taken on this day or later."
    )
    taken_to: date | None = Field(
        default=None, title="Taken to", description="Only photos taken on this day or earlier."
    )
    missing: tuple[Literal["thumbnail", "preview"], ...] = Field(
        default=(), title="Missing", description="Only photos that lack at least one of these derivatives."
    )
    failed_only: bool = Field(
        default=False, title="Failed only", description="Only photos whose thumbnail or preview failed."
    )

    @model_validator(mode="after")
    def _days_in_order(self) -> PhotoSelection:
        if self.taken_from and self.taken_to and self.taken_from > self.taken_to:
            raise ValueError(f"taken_from {self.taken_from} is after taken_to {self.taken_to}")
        if self.every_photo and self.model_dump(exclude={"every_photo"}, exclude_defaults=True):
            raise ValueError("every_photo stands by itself; leave the other criteria out")
        return self

    def statement(self, tenant_id: str) -> Select[Any]:
        """A select of `photo_id` and `filename` of the photos of that tenant, to be used inside another statement."""
        statement = (
            select(photos.c.id.label("photo_id"), photos.c.filename)
            .join(projects, projects.c.id == photos.c.project_id)
            .where(of_tenant(tenant_id), is_active())
        )
        if self.project_ids:
            statement = statement.where(photos.c.project_id.in_(self.project_ids))
        if self.tags:
            tagged = (
                select(photo_tags.c.photo_id)
                .join(tags, tags.c.id == photo_tags.c.tag_id)
                .where(photo_tags.c.photo_id == photos.c.id, tags.c.name.in_(self.tags))
            )
            statement = statement.where(exists(tagged))
        if self.taken_from:
            statement = statement.where(photos.c.date_time_original >= self.taken_from.isoformat())
        if self.taken_to:
            # The column is text; the next day's date is above every moment of the last day.
            statement = statement.where(photos.c.date_time_original < (self.taken_to + timedelta(days=1)).isoformat())
        columns = {"thumbnail": photos.c.thumbnail_status, "preview": photos.c.preview_status}
        if self.missing:
            statement = statement.where(
                or_(*(columns[kind].is_(None) | columns[kind].in_(("pending", "missing")) for kind in self.missing))
            )
        if self.failed_only:
            statement = statement.where(or_(*(column == "failed" for column in columns.values())))
        return statement
