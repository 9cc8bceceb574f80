"""The tables `projects` and `tags`: creates, finds, lists, archives, renames and removes projects.

`flows.steps.projects.orphaned_projects` decides when a project without a folder is archived and removed, and
`flows.steps.projects.project_deletion` deletes a project that a user names.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, text, update

from storage.database.column_types import check_text
from storage.database.engine import Access, Database
from storage.database.given_values import among
from storage.database.tables import TENANT_FOLDER_INDEX, jobs, photo_tags, photos, projects, tags
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import InvalidValue, UnknownProject, UnknownTag
from storage.library.naming.names import unsafe_reason
from storage.lifecycle.lock_order import LOCK_ORDER
from storage.lifecycle.state_machine import lock_tasks_of
from storage.lifecycle.step_jobs import is_active, of_tenant
from storage.photos.project_labels import project_label, read_reference
from storage.records import Project
from task_definitions.wording import did_you_mean, shown

#: The maximum number of tags that an unknown tag is compared with, to suggest a similar tag.
MAX_SIMILAR_TAGS = 1000


def check_folder_name(value: object, *, name: str) -> str:
    """Return `value` if it can be the name of a folder in the library.

    Raises:
        InvalidValue: `value` cannot be stored, or is not a single, visible and printable name.
    """
    text = check_text(value, name=name)
    reason = unsafe_reason(text)
    if reason is not None:
        raise InvalidValue(name, f"{text!r:.80} cannot be the name of a folder: {reason}; give another name")
    return text


def folders_are_unique_per_tenant(connection: Connection) -> bool:
    """Return whether two tenants may have folders of the same name; False for an SQLite file of another program."""
    if connection.dialect.name == "postgresql":
        return True
    index = text("SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = :name")
    return connection.scalar(index, {"name": TENANT_FOLDER_INDEX}) is not None


class ProjectsRepository:
    """Reads and writes projects and tags, in a `Database` or inside a caller's own transaction."""

    def __init__(self, source: Database | Connection) -> None:
        self._access = Access(source)

    def create(self, *, project_name: str, project_folder: str, tenant_id: str | None = None) -> Project:
        """Insert an active project. The folder name must be unique; see `list_beside`.

        Raises:
            ConstraintViolated: the folder name is not unique.
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
            manifest_version="1.0",
            created_at=now,
            updated_at=now,
        )
        with self._access.write() as connection:
            row = connection.execute(statement.returning(*projects.columns)).mappings().one()
        return Project.from_row(row)

    def get_by_id(self, id: int) -> Project | None:
        """Return the project with this id, archived or not; None if it does not exist."""
        return self._one(projects.c.id == id)

    def get_by_folder(self, project_folder: str, *, tenant_id: str | None = None) -> Project | None:
        """Return the tenant's project with this folder name, or None. Without a tenant, search all projects."""
        owned = [] if tenant_id is None else [of_tenant(tenant_id)]
        return self._one(projects.c.project_folder == project_folder, *owned)

    def get(self, id: int, *, tenant_id: str | None = None) -> Project:
        """Return the project with this id; if `tenant_id` is given, the project must belong to this tenant.

        Raises:
            UnknownProject: the project does not exist, or belongs to another tenant.
        """
        project = self._one(projects.c.id == id, *([] if tenant_id is None else [of_tenant(tenant_id)]))
        if project is None:
            owner = "" if tenant_id is None else f" for tenant {tenant_id}"
            raise UnknownProject(f"project {id} does not exist{owner}. `photojobs library list` shows all projects.")
        return project

    def find(self, reference: int | str, *, tenant_id: str) -> int:
        """Return the id of a tenant's project, given by its id, a label such as `Alps (#12)`, its name or its folder.

        An archived project is only found by its id or label.

        Raises:
            UnknownProject: the tenant has no such project or several of them, or the name and the id in a label do not
                match.
        """
        name, project_id = read_reference(reference)
        if project_id is not None:
            project = self.get(project_id, tenant_id=tenant_id)
            if name is not None and name != project.project_name.strip():
                raise UnknownProject(
                    f'project {project_id} is called "{project.project_name}", not "{name}"; '
                    f"give {project_label(project)} or another project."
                )
            return project.id
        named = or_(projects.c.project_name == name, projects.c.project_folder == name)
        with self._access.read() as connection:
            ids = list(connection.scalars(select(projects.c.id).where(named, of_tenant(tenant_id), is_active())))
        if len(ids) != 1:
            found = f"{len(ids)} projects of tenant {tenant_id} are" if ids else f"no project of tenant {tenant_id} is"
            raise UnknownProject(
                f"{found} called {shown(name)}; give the id. `photojobs library list` shows all projects."
            )
        return int(ids[0])

    def find_all(self, references: Sequence[int | str], *, tenant_id: str) -> tuple[int, ...]:
        """Return the ids of several projects as `find` does; one query reads all projects that are given by id.

        Raises:
            UnknownProject: see `find`.
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

    def list_labeled(self, *, limit: int) -> Sequence[Project]:
        """Return up to `limit` active projects of all tenants, ordered by name, for lists in forms."""
        statement = select(projects).where(is_active()).order_by(projects.c.project_name, projects.c.id).limit(limit)
        with self._access.read() as connection:
            return [Project.from_row(row) for row in connection.execute(statement).mappings()]

    def has_tenant(self, tenant_id: str) -> bool:
        """Return whether the tenant has a project, archived or not."""
        with self._access.read() as connection:
            return connection.execute(select(projects.c.id).where(of_tenant(tenant_id)).limit(1)).first() is not None

    def list_tenants(self, *, limit: int) -> Sequence[str]:
        """Return up to `limit` ids of tenants that have a project, in order."""
        tenant = func.coalesce(projects.c.tenant_id, DEFAULT_TENANT)
        with self._access.read() as connection:
            return list(connection.scalars(select(tenant).distinct().order_by(tenant).limit(limit)))

    def list_tags(self, *, limit: int) -> Sequence[str]:
        """Return up to `limit` different names of tags of all tenants, in order."""
        with self._access.read() as connection:
            return list(connection.scalars(select(tags.c.name).distinct().order_by(tags.c.name).limit(limit)))

    def check_tags(self, names: Sequence[str], *, tenant_id: str) -> None:
        """Check that each tag belongs to a project of the tenant.

        Raises:
            UnknownTag: for at least one of the names, no project of the tenant has a tag.
        """
        known_to_tenant = select(tags.c.name).join(projects).where(of_tenant(tenant_id)).distinct()
        with self._access.read() as connection:
            known = set(connection.scalars(known_to_tenant.where(among(tags.c.name, names))))
            unknown = [name for name in names if name not in known]
            if unknown:
                similar = did_you_mean(unknown[0], connection.scalars(known_to_tenant.limit(MAX_SIMILAR_TAGS)))
                advice = similar or " Check its spelling."
                raise UnknownTag(f"no project of tenant {tenant_id} has the tag {shown(unknown[0])}.{advice}")

    def list_beside(self, tenant_id: str) -> list[Project]:
        """Return the projects whose folder names a new project of this tenant must not have, in order of id.

        These are the tenant's projects, and in an SQLite file of another program all projects.
        """
        with self._access.read() as connection:
            is_per_tenant = folders_are_unique_per_tenant(connection)
            return ProjectsRepository(connection).list(tenant_id=tenant_id if is_per_tenant else None)

    def list(
        self, *, tenant_id: str | None = None, archived: bool | None = None, ids: Sequence[int] | None = None
    ) -> list[Project]:
        """Return projects in order of id.

        Each argument restricts the result: to a tenant's projects, to archived or to active projects, or to these ids.
        """
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
        """Archive a project, so that only steps that remove projects process it.

        Return the project, or None if it does not exist.
        """
        now = self._access.clock()
        return self._change(id, status="canceled", archived_at=now)

    def restore(self, id: int) -> Project | None:
        """Make an archived project active again, and return it, or None if it does not exist."""
        return self._change(id, status=None, archived_at=None)

    def rename(self, id: int, *, project_name: str | None = None, project_folder: str | None = None) -> Project | None:
        """Change the name or folder name in the row, but not the folder on disk.

        Return the project, or None if it does not exist.
        """
        if project_name is not None:
            check_text(project_name, name="project_name")
        if project_folder is not None:
            check_folder_name(project_folder, name="project_folder")
        values = {"project_name": project_name, "project_folder": project_folder}
        return self._change(id, **{name: value for name, value in values.items() if value is not None})

    def remove(self, id: int) -> bool:
        """Remove the rows of a project, its photos and its tags in one transaction; return False if it does not exist.

        The project's jobs are kept; their `project_id` becomes NULL.
        """
        with self._access.write() as connection:
            # The removal also updates jobs, so it locks in the same order as the end of a job: tasks, jobs, project.
            lock_tasks_of(connection, jobs.c.project_id == id)
            connection.execute(select(jobs.c.id).where(jobs.c.project_id == id).order_by(*LOCK_ORDER).with_for_update())
            of_project = select(photos.c.id).where(photos.c.project_id == id)
            connection.execute(delete(photo_tags).where(photo_tags.c.photo_id.in_(of_project)))
            connection.execute(delete(tags).where(tags.c.project_id == id))
            connection.execute(delete(photos).where(photos.c.project_id == id))
            return connection.execute(delete(projects).where(projects.c.id == id)).rowcount == 1

    def _one(self, *conditions: Any) -> Project | None:
        statement = select(projects).where(*conditions).order_by(projects.c.id).limit(1)
        with self._access.read() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else Project.from_row(row)

    def _change(self, id: int, **values: Any) -> Project | None:
        statement = update(projects).where(projects.c.id == id).values(**values, updated_at=self._access.clock())
        with self._access.write() as connection:
            row = connection.execute(statement.returning(*projects.columns)).mappings().one_or_none()
        return None if row is None else Project.from_row(row)
