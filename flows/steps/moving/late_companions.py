"""Moves companions that other programs wrote while a step moved or renamed their photos, such as a first sidecar.

`flows.handlers.left_companions` decides which files these are.
"""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

from flows.errors import reason_of
from flows.handlers.announced_moves import FileMove, MoveGroup
from flows.handlers.left_companions import Relocation, left_companions
from flows.handlers.photo_files_change import BATCH_SIZE, PhotoFilesChange
from flows.handlers.step_context import StepContext
from flows.steps.targets.journal_changes import relative_path
from storage.batches import batched
from storage.history.journal import FileAction


def bring_late_companions(ctx: StepContext, relocations: Mapping[int, Relocation]) -> None:
    """Move the companions that are still at the old places of their photos. The caller must have claimed the projects.

    Args:
        ctx: the context of the step.
        relocations: the moves of the photos by photo id. Their rows have the new places.
    """
    photo_ids = {relocation: photo_id for photo_id, relocation in relocations.items()}
    moves: dict[Relocation, list[FileMove]] = defaultdict(list)
    for one, source, target in left_companions(ctx.database, photo_ids, photos_have_left=True):
        with suppress(FileNotFoundError):
            moves[one].append(FileMove(source, target, source.lstat().st_size))
    groups = [
        MoveGroup(files, one.source.project_id, one.target.project_id, photo_ids[one]) for one, files in moves.items()
    ]
    for batch in batched(groups, BATCH_SIZE):
        is_renaming = batch[0].project_id == batch[0].target_project_id
        folder = next(iter(moves)).target.folder
        (_LateRenamings if is_renaming else _LateMoves)(ctx, batch, folder).run()


class _LateMoves(PhotoFilesChange[MoveGroup]):
    action = FileAction.MOVED

    def report(self) -> None:
        for group in self.groups:
            for move in group.moves:
                name = relative_path(self.folder, move.source)
                if group.error is None:
                    self.ctx.report.count("companions that came later", example=name)
                else:
                    self.ctx.report.count("files left behind", example=f"{name}: {reason_of(group.error)}")


class _LateRenamings(_LateMoves):
    action = FileAction.RENAMED
