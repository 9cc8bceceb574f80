"""Selections of photos by criteria, instead of lists of ids."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection, Select, exists, or_, select

from storage.database.given_values import among
from storage.database.tables import photo_tags, photos, projects, tags
from storage.lifecycle.step_jobs import is_active, of_tenant
from storage.photos.projects import ProjectsRepository
from task_definitions.wording import listed

#: The statuses of derivatives that do not exist.
_LACKING = ("pending", "missing", "failed")

#: The kinds of derivatives that a photo may lack.
Derivative = Literal["preview", "thumbnail"]

#: A project's id, its name, or both as in `Alps (#12)`.
ProjectReference = Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1, max_length=300)]


class PhotoSelection(BaseModel):
    """A selection of the photos in a tenant's active projects; a photo must meet all given criteria.

    The constructor also accepts `missing_preview=True` and `missing_thumbnail=True` instead of `missing`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    missing: tuple[Derivative, ...] = Field(
        default=(),
        title="Missing",
        description="Only photos that lack one of these derivatives, also if an attempt to make it failed.",
    )
    failed_only: bool = Field(
        default=False,
        title="Failed only",
        description="Only photos whose thumbnail or preview failed. With Missing, only the derivatives chosen there "
        "count.",
    )
    project_ids: tuple[ProjectReference, ...] = Field(
        default=(), title="Projects", description="Only photos of these projects; empty means all."
    )
    tags: tuple[str, ...] = Field(default=(), title="Tags", description="Only photos with at least one of these tags.")
    taken_from: date | None = Field(
        default=None, title="Taken from", description="Only photos taken on this day or later."
    )
    taken_to: date | None = Field(
        default=None, title="Taken to", description="Only photos taken on this day or earlier."
    )
    every_photo: bool = Field(
        default=False, title="Every photo", description="All photos of the tenant; then leave the other criteria empty."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_switches(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        values = dict(given)
        switched = [kind for kind in get_args(Derivative) if values.pop(f"missing_{kind}", False) is True]
        missing = values.get("missing") or ()
        if switched and isinstance(missing, list | tuple):
            values["missing"] = [*missing, *(kind for kind in switched if kind not in missing)]
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.taken_from and self.taken_to and self.taken_from > self.taken_to:
            raise ValueError(f"taken_from {self.taken_from} is after taken_to {self.taken_to}; exchange them")
        if self.every_photo and self.criteria:
            others = listed(self.criteria, last="and")
            raise ValueError(f"every_photo selects all photos; leave it out, or leave out {others}")
        return self

    @property
    def criteria(self) -> tuple[str, ...]:
        """The names of the given criteria, without `every_photo`."""
        return tuple(self.model_dump(exclude={"every_photo"}, exclude_defaults=True))

    def checked(self, connection: Connection, *, tenant_id: str) -> Self:
        """Check the projects and tags, and return the selection with ids of projects instead of names and labels.

        Raises:
            UnknownProject: the tenant has no such project, several have this name, or the name and the id in a label do
                not match.
            UnknownTag: no project of the tenant has one of the tags.
        """
        known = ProjectsRepository(connection)
        if self.tags:
            known.check_tags(self.tags, tenant_id=tenant_id)
        return self.model_copy(update={"project_ids": known.find_all(self.project_ids, tenant_id=tenant_id)})

    def statement(self, tenant_id: str) -> Select[Any]:
        """Return a query of `photo_id` and `filename` of the selected photos, for use as a subquery."""
        statement = (
            select(photos.c.id.label("photo_id"), photos.c.filename)
            .join(projects, projects.c.id == photos.c.project_id)
            .where(of_tenant(tenant_id), is_active())
        )
        if self.project_ids:
            statement = statement.where(among(photos.c.project_id, map(int, self.project_ids)))
        if self.tags:
            tagged = (
                select(photo_tags.c.photo_id)
                .join(tags, tags.c.id == photo_tags.c.tag_id)
                .where(photo_tags.c.photo_id == photos.c.id, among(tags.c.name, self.tags))
            )
            statement = statement.where(exists(tagged))
        if self.taken_from:
            statement = statement.where(photos.c.date_time_original >= self.taken_from.isoformat())
        if self.taken_to and self.taken_to < date.max:
            # The column is text, and the date of the next day sorts after every time of the day `taken_to`.
            statement = statement.where(photos.c.date_time_original < (self.taken_to + timedelta(days=1)).isoformat())
        columns = {"thumbnail": photos.c.thumbnail_status, "preview": photos.c.preview_status}
        if self.missing:
            statement = statement.where(
                or_(*(columns[kind].is_(None) | columns[kind].in_(_LACKING) for kind in self.missing))
            )
        if self.failed_only:
            statement = statement.where(or_(*(columns[kind] == "failed" for kind in self.missing or columns)))
        return statement
