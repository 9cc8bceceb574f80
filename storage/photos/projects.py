"""The tables `projects`, `tags` and `photo_tags`: which projects there are, which are archived, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, text, update

from storage.database.column_types import check_text
from storage.database.engine import Access, Database
from storage.database.given_values import among
from storage.database.tables import TENANT_FOLDER_INDEX, jobs, photo_tags, photos, projects, tags
from storage.errors import InvalidValue, UnknownProject, UnknownTag
from storage.library.names import unsafe_reason
from storage.lifecycle.state_machine import lock_tasks_of
from storage.lifecycle.step_jobs import DEFAULT_TENANT, is_active, of_tenant
from storage.photos.project_labels import project_label, read_reference
from storage.records import Project
from task_definitions.wording import did_you_mean, shown

#: Tags that an unknown one is compared with.
MAX_SIMILAR_TAGS = 1000


def check_folder_name(value: object, *, name: str) -> str:
    """`value`, if it can be the name of a folder in the library.

    Raises:
        InvalidValue: it cannot be stored, or it is no single, visible and printable name.
    """
    text = check_text(value, name=name)
    reason = unsafe_reason(text)
    if reason is not None:
        raise InvalidValue(name, f"{text!r:.80} cannot be the name of a folder: {reason}")
    return text


def folders_are_unique_per_tenant(connection: Connection) -> bool:
    """Whether two tenants may have folders of one name; not in an SQLite file of another program."""
    if connection.dialect.name == "postgresql":
        return True
    index = text("SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = :name")
    return connection.scalar(index, {"name": TENANT_FOLDER_INDEX}) is not None


class ProjectsRepository:
    """Projects, in a `Database` or inside a caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def create(
        self,
        *,
        project_name: str,
        project_folder: str,
        tenant_id: str | None = None,
        manifest_version: str | None = "1.0",
    ) -> Project:
        """Add an active project; its folder name is unique in its tenant, or in a file of another program in all.

        Raises:
            InvalidValue: a value cannot be stored, or the folder or the tenant cannot be the name of a folder.
        """
        check_text(project_name, name="project_name")
        check_folder_name(project_folder, name="project_folder")
        if tenant_id is not None:
            check_folder_name(tenant_id, name="tenant_id")
        now = self._access.clock()
        statement = insert(projects).values(
            project_name=project_name,
            project_folder=project_folder,
            tenant_id=tenant_id,
            manifest_version=manifest_version,
            created_at=now,
            updated_at=now,
        )
        with self._access.write() as connection:
            row = connection.execute(statement.returning(*projects.columns)).mappings().one()
        return Project.from_row(row)

    def get_by_id(self, id: int) -> Project | None:
        """The project of that id, archived or not, or None."""
        return self._one(projects.c.id == id)

    def get_by_folder(self, project_folder: str, *, tenant_id: str | None = None) -> Project | None:
        """The tenant's project with that folder name, or None; without a tenant the first of any tenant."""
        owned = [] if tenant_id is None else [of_tenant(tenant_id)]
        return self._one(projects.c.project_folder == project_folder, *owned)

    def get(self, id: int, *, tenant_id: str | None = None) -> Project:
        """The project of that id, if it is the tenant's.

        Raises:
            UnknownProject: there is none, or it is another tenant's.
        """
        project = self._one(projects.c.id == id, *([] if tenant_id is None else [of_tenant(tenant_id)]))
        if project is None:
            owner = "" if tenant_id is None else f" for tenant {tenant_id}"
            raise UnknownProject(f"project {id} does not exist{owner}. `photojobs library list` shows those that do.")
        return project

    def find(self, reference: int | str, *, tenant_id: str) -> int:
        """The id of the tenant's project that an id, a label such as `Alps (#12)`, a name or a folder stands for.

        Raises:
            UnknownProject: no active project of the tenant has that name, or several have; or the name and the id in
                a label belong to different projects.
        """
        name, project_id = read_reference(reference)
        if project_id is not None:
            project = self.get(project_id, tenant_id=tenant_id)
            if name is not None and name != project.project_name.strip():
                raise UnknownProject(
                    f'project {project_id} is called "{project.project_name}", not "{name}"; '
                    f"give {project_label(project)}, or the project that you mean."
                )
            return project.id
        named = or_(projects.c.project_name == name, projects.c.project_folder == name)
        with self._access.read() as connection:
            ids = list(connection.scalars(select(projects.c.id).where(named, of_tenant(tenant_id), is_active())))
        if len(ids) != 1:
            problem = (
                f"{len(ids)} projects of tenant {tenant_id} are" if ids else f"no project of tenant {tenant_id} is"
            )
            raise UnknownProject(f'{problem} called "{name}"; give the id. `photojobs library list` shows them.')
        return int(ids[0])

    def find_all(self, references: Sequence[int | str], *, tenant_id: str) -> tuple[int, ...]:
        """The ids of several projects as `find` returns them; one query for all that are given by their ids.

        Raises:
            UnknownProject: as for `find`.
        """
        given = [reference for reference in references if isinstance(reference, int)]
        owned = select(projects.c.id).where(among(projects.c.id, given), of_tenant(tenant_id))
        with self._access.read() as connection:
            known = set(connection.scalars(owned)) if given else set()
        return tuple(
            reference
            if isinstance(reference, int) and reference in known
            else self.find(reference, tenant_id=tenant_id)
            for reference in references
        )

    def list_labelled(self, *, limit: int) -> Sequence[Project]:
        """The first active projects of all tenants by name; for lists to choose from."""
        statement = select(projects).where(is_active()).order_by(projects.c.project_name, projects.c.id).limit(limit)
        with self._access.read() as connection:
            return [Project.from_row(row) for row in connection.execute(statement).mappings()]

    def has_tenant(self, tenant_id: str) -> bool:
        """Whether a project, archived or not, is the tenant's."""
        with self._access.read() as connection:
            return connection.execute(select(projects.c.id).where(of_tenant(tenant_id)).limit(1)).first() is not None

    def list_tenants(self, *, limit: int) -> Sequence[str]:
        """The tenants that have a project, by name."""
        tenant = func.coalesce(projects.c.tenant_id, DEFAULT_TENANT)
        with self._access.read() as connection:
            return list(connection.scalars(select(tenant).distinct().order_by(tenant).limit(limit)))

    def list_tags(self, *, limit: int) -> Sequence[str]:
        """The names of tags, each once, by name."""
        with self._access.read() as connection:
            return list(connection.scalars(select(tags.c.name).distinct().order_by(tags.c.name).limit(limit)))

    def check_tags(self, names: Sequence[str], *, tenant_id: str) -> None:
        """Return if each of the tags belongs to a project of the tenant.

        Raises:
            UnknownTag: one does not.
        """
        known_to_tenant = (
            select(tags.c.name)
            .join(projects, projects.c.id == tags.c.project_id)
            .where(of_tenant(tenant_id))
            .distinct()
        )
        with self._access.read() as connection:
            known = set(connection.scalars(known_to_tenant.where(among(tags.c.name, names))))
            unknown = [name for name in names if name not in known]
            if unknown:
                similar = did_you_mean(unknown[0], connection.scalars(known_to_tenant.limit(MAX_SIMILAR_TAGS)))
                raise UnknownTag(f"no project of tenant {tenant_id} has the tag {shown(unknown[0])}.{similar}")

    def list_beside(self, tenant_id: str) -> list[Project]:
        """The projects whose folder names a project of the tenant cannot have, in id order.

        They are the tenant's own. In an SQLite file of another program they are all (`folders_are_unique_per_tenant`).
        """
        with self._access.read() as connection:
            is_per_tenant = folders_are_unique_per_tenant(connection)
            return ProjectsRepository(connection).list(tenant_id=tenant_id if is_per_tenant else None)

    def list(
        self, *, tenant_id: str | None = None, archived: bool | None = None, ids: Sequence[int] | None = None
    ) -> list[Project]:
        """Projects in id order: all, or those of a tenant, or only archived (True) or active (False) ones."""
        statement = select(projects).order_by(projects.c.id)
        if tenant_id is not None:
            statement = statement.where(of_tenant(tenant_id))
        if archived is not None:
            statement = statement.where(~is_active() if archived else is_active())
        if ids is not None:
            statement = statement.where(among(projects.c.id, ids))
        with self._access.read() as connection:
            return [Project.from_row(row) for row in connection.execute(statement).mappings()]

    def archive(self, id: int) -> Project | None:
        """Hide a project from every step but those that remove it; None where there is no such project."""
        now = self._access.clock()
        return self._change(id, status="canceled", archived_at=now)

    def restore(self, id: int) -> Project | None:
        """Make an archived project active again; None where there is no such project."""
        return self._change(id, status=None, archived_at=None)

    def rename(self, id: int, *, project_name: str | None = None, project_folder: str | None = None) -> Project | None:
        """Write a new name or folder name; None where there is no such project. The folder on disk is not touched."""
        if project_name is not None:
            check_text(project_name, name="project_name")
        if project_folder is not None:
            check_folder_name(project_folder, name="project_folder")
        values = {"project_name": project_name, "project_folder": project_folder}
        return self._change(id, **{name: value for name, value in values.items() if value is not None})

    def remove(self, id: int) -> bool:
        """Remove a project's row with its photos and tags, in one transaction; False where there is none.

        Its jobs stay: their `project_id` becomes NULL.
        """
        with self._access.write() as connection:
            # In the order of those who end jobs: tasks, jobs, project. Removing the row changes the jobs' rows as well.
            lock_tasks_of(connection, jobs.c.project_id == id)
            connection.execute(select(jobs.c.id).where(jobs.c.project_id == id).order_by(jobs.c.id).with_for_update())
            of_project = select(photos.c.id).where(photos.c.project_id == id)
            connection.execute(delete(photo_tags).where(photo_tags.c.photo_id.in_(of_project)))
            connection.execute(delete(tags).where(tags.c.project_id == id))
            connection.execute(delete(photos).where(photos.c.project_id == id))
            return connection.execute(delete(projects).where(projects.c.id == id)).rowcount == 1

    def _one(self, *conditions: Any) -> Project | None:
        with self._access.read() as connection:
            row = (
                connection.execute(select(projects).where(*conditions).order_by(projects.c.id).limit(1))
                .mappings()
                .first()
            )
        return None if row is None else Project.from_row(row)

    def _change(self, id: int, **values: Any) -> Project | None:
        statement = update(projects).where(projects.c.id == id).values(**values, updated_at=self._access.clock())
        with self._access.write() as connection:
            row = connection.execute(statement.returning(*projects.columns)).mappings().one_or_none()
        return None if row is None else Project.from_row(row)
