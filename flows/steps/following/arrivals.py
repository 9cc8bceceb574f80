"""Decides what becomes of files without a row: new photos get rows, and photos that a user moved keep their rows.

A user moved a photo if its file is missing, but not because a disk is missing, and a new file has the same size and
contents. The row is updated only if the match of photo and file is certain, as `flows.steps.following.arrival_pairs`
decides.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Final

from flows.errors import StepTimeout, reason_of
from flows.handlers.photo_files_change import BATCH_SIZE
from flows.handlers.step_context import StepContext
from flows.steps.following.arrival_pairs import Arrival, pair
from flows.steps.following.moved_by_hand import follow
from flows.steps.targets.journal_changes import relative_path
from flows.steps.targets.target_projects import compared
from flows.steps.targets.whereabouts import ProjectState, Whereabouts, folders_inside, folders_without_project
from storage.batches import batched
from storage.comparison.part_comparison import NewName
from storage.comparison.reconciliation import ProjectComparison, known_names
from storage.library.content_hash import matching_hashes
from storage.library.errors import LibraryError
from storage.library.naming.kinds import SOURCE_ORDER
from storage.library.paths import ProjectFolder
from storage.photos.original_search import KnownOriginal, count_known_photos, originals_of_sizes, projects_of_sizes
from storage.photos.photos import PhotosRepository
from storage.queue.lanes import PRIORITY_LANE_FROM
from storage.records import Project

#: Largest number of arrivals in memory. Further arrivals wait for the next run.
MAX_ARRIVALS: Final = 50_000

#: Largest number of missing files in memory. If there are more, all of them are dropped, and read again when they are
#: needed.
_MAX_MISSING: Final = 100_000


class Arrivals:
    """Collects new files, project by project, and finally updates the rows of photos that were moved by hand.

    To update such a row, the step must claim two projects. `follow_moves` does this while the step has no other claim.

    Attributes:
        found: the photos with a missing file whose contents were found in a file without a row. The dictionary maps
            the id of each photo to the id of its project.
    """

    def __init__(self, ctx: StepContext) -> None:
        self.found: dict[int, int] = {}
        self._ctx = ctx
        self._whereabouts = Whereabouts(ctx)
        self._missing: dict[int, list[KnownOriginal]] = {}
        #: The arrivals by project and base name, because two searches may find the same file.
        self._arrivals: dict[tuple[int, str], Arrival] = {}
        self._has_looked_everywhere = False

    def take(self, comparison: ProjectComparison, project: Project, folder: ProjectFolder) -> None:
        """Insert the rows of new photos, and collect moved photos. The caller must have claimed the project."""
        for batch in comparison.new_names():
            self._ctx.checkpoint()
            _add_new(self._ctx, project, self._keep_moved(project, folder, batch))

    def look_everywhere(self) -> None:
        """Search all folders of the tenant for moved photos. No row is inserted or updated."""
        ctx = self._ctx
        self._has_looked_everywhere = True
        for project in self._whereabouts:
            ctx.checkpoint()
            if self._whereabouts.state(project.id) is ProjectState.HERE:
                with suppress(LibraryError, OSError):
                    folder = ctx.folder_of(project)
                    with compared(ctx, project, folder, is_reported=False) as comparison:
                        for batch in comparison.new_names():
                            self._keep_moved(project, folder, batch)
        tenant = ctx.library.tenant(ctx.tenant_id)
        for name in folders_without_project(ctx):
            ctx.checkpoint()
            with suppress(LibraryError, OSError):
                self._look_into(
                    tenant.project(name), "the file waits until folder_discovery has made its folder a project"
                )
        for folder in folders_inside(tenant):
            ctx.checkpoint()
            with suppress(LibraryError, OSError):
                self._look_into(
                    folder, "the file is in a folder inside a project; move it into the folder of the project itself"
                )

    def follow_moves(self, *, adds_rows: bool = True, doomed: Collection[int] = ()) -> None:
        """Update the rows of moved photos. The step must have claimed no project.

        Args:
            adds_rows: whether to insert rows for arrivals that prove to be new photos.
            doomed: the ids of projects without a folder whose rows the step may remove next.
        """
        ctx = self._ctx
        if self._maybe_unmounted() - set(doomed) and not self._has_looked_everywhere:
            # A user may have moved the photos of a project without a folder to folders that this step does not visit,
            # so all folders are visited.
            self.look_everywhere()
        but_for = self._maybe_unmounted() - set(doomed)
        arrivals, self._arrivals = list(self._arrivals.values()), {}
        pairs = pair(arrivals, but_for=but_for)
        for arrival in pairs.unsure:
            self._report_unsure(arrival)
        new = [*pairs.unsure, *pairs.new]

        def projects_of(pair: tuple[Arrival, KnownOriginal]) -> tuple[int, int]:
            return pair[1].project_id, pair[0].project_id

        for (source_id, target_id), group in groupby(sorted(pairs.certain, key=projects_of), key=projects_of):
            source, target = self._whereabouts.project(source_id), self._whereabouts.project(target_id)
            for batch in batched(group, BATCH_SIZE):
                ctx.checkpoint()
                try:
                    with ctx.exclusively(sorted({source_id, target_id})):
                        if self._whereabouts.look_again(source_id) in (ProjectState.HERE, ProjectState.MISSING):
                            new += follow(ctx, source, target, batch)
                except StepTimeout:
                    raise
                except (LibraryError, OSError) as error:
                    # The files get no rows, so that the next run tries again.
                    self._leave(f"{target.project_name}: {reason_of(error)}", number=len(batch))
        if adds_rows:
            self._add_rows(new)

    def _add_rows(self, arrivals: Sequence[Arrival]) -> None:
        of_project = attrgetter("project_id")
        for project_id, group in groupby(sorted(arrivals, key=of_project), key=of_project):
            project = self._whereabouts.project(project_id)
            names = [arrival.new for arrival in group]
            self._ctx.report.enter_project(project.project_name)
            try:
                with self._ctx.exclusively([project_id]):
                    fresh = self._ctx.reload(project)
                    if fresh is not None and not fresh.is_archived:
                        _add_new(self._ctx, fresh, names)
            except (LibraryError, OSError) as error:
                example = f"{project.project_name}: {reason_of(error).rstrip('.')}. The next run adds the new photos."
                self._ctx.report.count("photos not added", len(names), example=example)
            self._ctx.report.enter_project(None)

    def _keep_moved(self, project: Project, folder: ProjectFolder, names: Sequence[NewName]) -> list[NewName]:
        """Keep the arrivals that may be moved photos; return the names that match no missing photo.

        A name that must wait is only reported.
        """
        others = []
        for new, arrival in self._arrivals_of(project.id, folder, names):
            if arrival is None:
                others.append(new)
                continue
            reason = self._reason_to_wait(arrival)
            if reason is None:
                # This call reads the project's row and keeps it in memory, because another job may remove the project
                # before the rows are updated.
                self._whereabouts.project(project.id)
                self._arrivals[project.id, new.name] = arrival
            else:
                self._leave(f"{project.project_name}/{new.name}: {reason}")
        return others

    def _look_into(self, folder: ProjectFolder, reason: str) -> None:
        """Report the moved photos in a folder without a project. `reason` says why their rows are not updated."""
        with compared(self._ctx, None, folder, is_reported=False) as comparison:
            for batch in comparison.new_names():
                for new, arrival in self._arrivals_of(0, folder, batch):
                    if arrival is not None:
                        self._leave(f"{relative_path(folder).partition('/')[2]}/{new.name}: {reason}")

    def _arrivals_of(
        self, project_id: int, folder: ProjectFolder, names: Sequence[NewName]
    ) -> Iterator[tuple[NewName, Arrival | None]]:
        """Yield each name with its arrival, or None if no photo matches. Leave out names whose file cannot be read."""
        self._look_up({file.size_bytes for new in names for file in new.files} - {0})
        for new in names:
            try:
                yield new, self._arrival(project_id, folder, new)
            except OSError as error:
                # The file has the size of a missing file, so it may be a moved photo and gets no row.
                self._leave(
                    f"{folder.project_folder}/{new.name}: the file cannot be read ({error.strerror or error}); check "
                    "the file and its disk"
                )

    def _arrival(self, project_id: int, folder: ProjectFolder, new: NewName) -> Arrival | None:
        for file in sorted(new.files, key=lambda file: SOURCE_ORDER.index(file.kind)):
            missing = self._missing.get(file.size_bytes)
            if not missing:
                continue
            self._ctx.checkpoint()
            path = self._ctx.library.content_path(folder.original(file.name))
            hashes = matching_hashes(path, {one.content_hash for one in missing})
            candidates = tuple(one for one in missing if one.content_hash in hashes)
            if candidates:
                self.found |= {one.photo_id: one.project_id for one in candidates}
                return Arrival(project_id=project_id, new=new, file=file, candidates=candidates)
        return None

    def _reason_to_wait(self, arrival: Arrival) -> str | None:
        left_out = self._ctx.targets.left_out
        for one in arrival.candidates:
            if one.photo_id in left_out.photos or one.project_id in left_out.projects:
                return "the photo was left out of the run"
            if self._whereabouts.state(one.project_id) is ProjectState.RENAMED:
                return "the file waits until folder_discovery has stored the new name of the project's folder"
        if len(self._arrivals) < MAX_ARRIVALS:
            return None
        return f"the file waits for the next run, because a run follows at most {MAX_ARRIVALS} moved files"

    def _look_up(self, sizes: Collection[int]) -> None:
        if sum(len(known) for known in self._missing.values()) > _MAX_MISSING:
            self._missing.clear()
        unknown = set(sizes) - self._missing.keys()
        self._missing |= {size: [] for size in unknown}
        with self._ctx.read() as connection:
            project_ids = projects_of_sizes(connection, unknown, tenant_id=self._ctx.tenant_id)
        # A search for a renamed folder may take minutes. PostgreSQL would end a transaction that is open meanwhile.
        for project_id in project_ids:
            self._whereabouts.state(project_id)
        with self._ctx.read() as connection:
            for known in originals_of_sizes(connection, unknown, tenant_id=self._ctx.tenant_id):
                if self._whereabouts.is_missing(known):
                    self._missing[known.size_bytes].append(known)

    def _maybe_unmounted(self) -> set[int]:
        """Return the ids of the projects whose folder is missing, perhaps because their disk is not mounted.

        Only the projects of photos that arrivals match are checked. If more than half of the photos of a project were
        found elsewhere, a user has moved them, and the project is not returned.
        """
        of_arrivals = {one.project_id for arrival in self._arrivals.values() for one in arrival.candidates}
        missing = [one for one in of_arrivals if self._whereabouts.state(one) is ProjectState.MISSING]
        found = Counter(self.found.values())
        with self._ctx.read() as connection:
            return {one for one in missing if 2 * found[one] <= count_known_photos(connection, one)}

    def _report_unsure(self, arrival: Arrival) -> None:
        def place(project_id: int, name: str) -> str:
            return f"{self._whereabouts.project(project_id).project_name}/{name}"

        photos = " or ".join(sorted(place(one.project_id, one.base_name) for one in arrival.candidates))
        self._leave(
            f"{place(arrival.project_id, arrival.new.name)}: the file has the contents of {photos}, but counts as a "
            "new photo, because other files or photos have the same contents"
        )

    def _leave(self, example: str, *, number: int = 1) -> None:
        self._ctx.report.count("moves not followed", number, example=example)


def _add_new(ctx: StepContext, project: Project, names: Sequence[NewName]) -> None:
    """Insert the rows of new photos, and request their post-processing. The caller must have claimed the project.

    A photo gets its row as soon as its file is found, even if another program is still writing the file. If the picture
    is incomplete, post-processing makes no derivatives, and a later run makes them.
    """
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
        ctx.enqueue("upload_postprocess", photo_ids=ids, priority=PRIORITY_LANE_FROM, connection=connection)
        ctx.journal_added(connection, project, dict(zip(ids, (new.name for new in fresh), strict=True)))
    for new in fresh:
        ctx.report.count("added", example=new.name)
