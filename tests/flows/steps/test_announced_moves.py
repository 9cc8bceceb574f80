"""Groups of files that move together: all or none, also after an error, and back after an interruption."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from flows.handlers import announced_moves, project_claim, step_context
from flows.handlers.announced_moves import (
    FileMove,
    MoveGroup,
    MoveInterrupted,
    interrupted,
    take_back,
)
from storage import JobsRepository
from storage.database.tables import move_intents, project_claims, projects
from storage.history.move_intents import MoveIntent, write_intents
from storage.library.errors import FolderMissing
from storage.library.naming.folder_names import FolderNames
from storage.library.transfer import move_without_overwrite


@pytest.fixture
def iceland(studio: Any) -> Any:
    return studio.project("Iceland")


@pytest.fixture
def norway(studio: Any) -> Any:
    return studio.project("Norway")


@pytest.fixture
def group(studio: Any, iceland: Any, norway: Any) -> MoveGroup:
    """A photo of two originals and a thumbnail, to be moved from Iceland to Norway."""
    source, target = studio.folder(iceland), studio.folder(norway)
    pairs = [(source.path / name, target.path / name) for name in ("fox.jpg", "fox.NEF")]
    moves = [FileMove(old, new, size_bytes=7) for old, new in pairs]
    moves.insert(1, FileMove(source.thumbnail("fox"), target.thumbnail("fox"), size_bytes=7, is_derivative=True))
    for move in moves:
        move.source.parent.mkdir(exist_ok=True)
        move.source.write_bytes(b"content")
    return MoveGroup(moves, project_id=iceland.id, target_project_id=norway.id)


def _fail(monkeypatch: pytest.MonkeyPatch, *sources: Path) -> None:
    """Let moves of these files fail."""
    move = announced_moves.move_without_overwrite

    def fail(source: Path, target: Path, **options: Any) -> None:
        if source in sources:
            raise OSError(5, os.strerror(5), os.fspath(source))
        move(source, target, **options)

    monkeypatch.setattr(announced_moves, "move_without_overwrite", fail)


def _where(group: MoveGroup) -> list[str]:
    """For each file of the group, the places where it is."""
    return [
        "".join("st"[number] for number in (0, 1) if (one.source, one.target)[number].exists()) for one in group.moves
    ]


def test_all_files_move_and_the_listing_of_their_folder_has_them(studio: Any, group: MoveGroup) -> None:
    folder = group.moves[0].target.parent
    names = FolderNames.read(folder)
    group.carry_out(studio.runtime.library, names=names, folder=folder)
    assert _where(group) == ["t", "t", "t"]
    assert not group.is_at_source
    assert names.same_as("fox.jpg") == {"fox.jpg"}
    # The thumbnail is in another folder.
    assert names.same_as(group.moves[1].target.name) == set()


def test_a_derivative_that_cannot_move_holds_no_original_up(
    studio: Any, group: MoveGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail(monkeypatch, group.moves[1].source)
    group.carry_out(studio.runtime.library)
    assert _where(group) == ["t", "s", "t"]
    assert [move.is_done for move in group.moves] == [True, False, True]


def test_if_an_original_cannot_move_all_files_return(
    studio: Any, group: MoveGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = group.moves[0].target.parent
    names = FolderNames.read(folder)
    _fail(monkeypatch, group.moves[2].source)
    with pytest.raises(OSError, match=r"fox\.NEF"):
        group.carry_out(studio.runtime.library, names=names, folder=folder)
    assert _where(group) == ["s", "s", "s"]
    assert ([move.is_done for move in group.moves], group.is_at_source) == ([False, False, False], True)
    assert names.same_as("fox.jpg") == set()


@pytest.mark.parametrize(("stuck", "is_half"), [(0, True), (1, False)])
def test_a_group_is_half_moved_only_if_an_original_cannot_return(
    studio: Any, group: MoveGroup, monkeypatch: pytest.MonkeyPatch, stuck: int, is_half: bool
) -> None:
    _fail(monkeypatch, group.moves[2].source, group.moves[stuck].target)
    with pytest.raises(MoveInterrupted if is_half else OSError):
        group.carry_out(studio.runtime.library)
    assert group.is_at_source is not is_half
    assert _where(group) == (["t", "s", "s"] if is_half else ["s", "t", "s"])


@pytest.fixture
def announced(studio: Any, group: MoveGroup) -> MoveGroup:
    """The group, after its intents were stored."""
    _announce(studio, group)
    return group


def _announce(studio: Any, group: MoveGroup) -> None:
    job = JobsRepository(studio.database).enqueue(tenant_id="tenant", type="image_move_files", scope="global")
    intents = [
        MoveIntent(
            group_id=group.group_id,
            tenant_id="tenant",
            job_id=job.id,
            project_id=group.project_id,
            target_project_id=group.target_project_id,
            photo_id=None,
            source=move.source.relative_to(studio.root).as_posix(),
            target=move.target.relative_to(studio.root).as_posix(),
            size_bytes=move.size_bytes,
            created_at=studio.database.clock(),
        )
        for move in group.moves
    ]
    with studio.database.begin() as connection:
        write_intents(connection, intents)


def _take_back(studio: Any, *project_ids: int) -> int:
    intents = interrupted(studio.database, project_ids)
    return take_back(studio.database, studio.runtime.library, intents)


def test_the_files_of_an_interrupted_move_return_once(studio: Any, announced: MoveGroup, norway: Any) -> None:
    announced.carry_out(studio.runtime.library)
    assert interrupted(studio.database, [norway.id + 1]) == []
    assert _take_back(studio, norway.id) == 3
    assert _where(announced) == ["s", "s", "s"]
    assert interrupted(studio.database, [norway.id]) == []


def test_files_return_to_folders_that_were_renamed_or_removed(
    studio: Any, announced: MoveGroup, iceland: Any, norway: Any
) -> None:
    announced.carry_out(studio.runtime.library)
    root = studio.root / "tenant"
    announced.moves[1].source.parent.rmdir()
    for project, name in ((iceland, "Alps"), (norway, "Andes")):
        studio.folder(project).path.rename(root / name)
        with studio.database.begin() as connection:
            connection.execute(projects.update().where(projects.c.id == project.id).values(project_folder=name))
    assert _take_back(studio, iceland.id) == 3
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("fox*") if path.is_file())
    assert found == sorted(
        move.source.relative_to(root).as_posix().replace("Iceland", "Alps") for move in announced.moves
    )


def test_only_the_files_of_the_move_itself_return(studio: Any, announced: MoveGroup, iceland: Any) -> None:
    jpg, thumbnail, raw = announced.moves
    # One has not moved, one has both names after a crash, and the third was replaced by a user.
    os.link(thumbnail.source, thumbnail.target)
    raw.source.unlink()
    raw.target.write_bytes(b"another photo")
    assert _take_back(studio, iceland.id) == 1
    assert (jpg.source.exists(), jpg.target.exists()) == (True, False)
    assert (thumbnail.source.exists(), thumbnail.target.exists()) == (True, False)
    assert (raw.source.exists(), raw.target.read_bytes()) == (False, b"another photo")


def test_a_file_that_was_edited_after_an_interrupted_move_returns_with_its_group(
    studio: Any, announced: MoveGroup, iceland: Any
) -> None:
    announced.carry_out(studio.runtime.library)
    announced.moves[2].target.write_bytes(b"edited since")
    assert _take_back(studio, iceland.id) == 3
    assert _where(announced) == ["s", "s", "s"]
    assert announced.moves[2].source.read_bytes() == b"edited since"


def test_companions_that_a_photo_got_after_an_interrupted_move_return_with_it(
    studio: Any, iceland: Any, norway: Any
) -> None:
    source, target = studio.folder(iceland).path, studio.folder(norway).path
    studio.photo(iceland, "fox(1)_02", "jpg")
    studio.photo(norway, "fox(1)_duplicate1_01")
    names = {"fox(1).jpg": "fox(1)_duplicate1.jpg", "fox.jpg(1).json": "fox(1)_duplicate1.jpg.json"}
    names |= {"fox(1).NEF": "fox(1)_duplicate1.NEF"}
    moves = [FileMove(source / old, target / new, size_bytes=len(old)) for old, new in names.items()]
    for move in moves:
        move.source.write_bytes(move.source.name.encode())
    group = MoveGroup(moves, project_id=iceland.id, target_project_id=norway.id)
    _announce(studio, group)
    # The move was interrupted before the third file.
    for move in moves[:2]:
        move.source.rename(move.target)
    others = {"fox(1)_duplicate1_01.jpg.xmp", "fox(1)_duplicate1_02.jpg.xmp", "notes.xmp"}
    new = {f"{folder}fox(1)_duplicate1.jpg.{end}" for folder, end in (("", "xmp"), ("NKSC_PARAM/", "nksc"))}
    (target / "NKSC_PARAM").mkdir()
    for name in others | new:
        (target / name).write_bytes(name.encode())
    assert _take_back(studio, norway.id) == 4
    assert _where(group) == ["s", "s", "s"]
    assert {(source / name.replace("_duplicate1", "")).read_bytes() for name in new} == {name.encode() for name in new}
    # The sidecars of other photos stay, and so does one that would become the sidecar of another photo.
    assert {path.name for path in target.iterdir() if path.is_file()} == others
    assert interrupted(studio.database, [norway.id]) == []


def test_a_new_companion_whose_name_is_taken_stays_and_the_photo_returns(
    studio: Any, announced: MoveGroup, iceland: Any
) -> None:
    announced.carry_out(studio.runtime.library)
    sidecars = [
        folder / "fox.jpg.xmp" for folder in (announced.moves[0].source.parent, announced.moves[0].target.parent)
    ]
    for number, sidecar in enumerate(sidecars):
        sidecar.write_bytes(bytes([number]))
    assert _take_back(studio, iceland.id) == 3
    assert [sidecar.read_bytes() for sidecar in sidecars] == [b"\0", b"\1"]


def test_files_do_not_return_to_a_folder_that_was_renamed_by_hand(
    studio: Any, announced: MoveGroup, iceland: Any, norway: Any
) -> None:
    announced.carry_out(studio.runtime.library)
    folder = studio.folder(iceland).path
    folder.rename(folder.with_name("Iceland 2024"))
    with pytest.raises(FolderMissing, match="rename it back"):
        _take_back(studio, norway.id)
    assert not folder.exists()
    assert [move.target.exists() for move in announced.moves] == [True, True, True]
    folder.with_name("Iceland 2024").rename(folder)
    assert _take_back(studio, norway.id) == 3
    assert _where(announced) == ["s", "s", "s"]
    assert interrupted(studio.database, [norway.id]) == []


def test_files_on_a_disk_that_is_away_return_when_it_is_there_again(
    studio: Any, announced: MoveGroup, iceland: Any, norway: Any
) -> None:
    announced.carry_out(studio.runtime.library)
    folder, away = studio.folder(norway).path, studio.root.parent / "away"
    folder.rename(away)
    assert _take_back(studio, iceland.id) == 0
    away.rename(folder)
    assert _take_back(studio, iceland.id) == 3
    assert _where(announced) == ["s", "s", "s"]
    assert interrupted(studio.database, [norway.id]) == []


def test_an_edited_file_that_is_the_only_one_of_its_group_returns(
    studio: Any, announced: MoveGroup, iceland: Any
) -> None:
    _, thumbnail, raw = announced.moves
    raw.source.unlink()
    with studio.database.begin() as connection:
        connection.execute(move_intents.delete().where(move_intents.c.source.endswith("fox.NEF")))
    announced.moves.remove(raw)
    announced.carry_out(studio.runtime.library)
    announced.moves[0].target.write_bytes(b"edited since")
    thumbnail.target.unlink()
    assert _take_back(studio, iceland.id) == 1
    assert announced.moves[0].source.read_bytes() == b"edited since"
    assert interrupted(studio.database, [iceland.id]) == []


@pytest.mark.parametrize("edited", [0, 2])
@pytest.mark.parametrize("returned", [0, 1, 2])
def test_an_edited_file_also_returns_if_the_return_was_interrupted(
    studio: Any, announced: MoveGroup, iceland: Any, monkeypatch: pytest.MonkeyPatch, edited: int, returned: int
) -> None:
    announced.carry_out(studio.runtime.library)
    announced.moves[edited].target.write_bytes(b"edited since")
    moves = []

    def move_until_death(source: Path, target: Path, **options: Any) -> None:
        if len(moves) == returned:
            raise OSError(errno.EIO, "died")
        moves.append(source)
        move_without_overwrite(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(announced_moves, "move_without_overwrite", move_until_death)
        with pytest.raises(OSError, match="died"):
            _take_back(studio, iceland.id)
    _take_back(studio, iceland.id)
    assert _where(announced) == ["s", "s", "s"]
    assert announced.moves[edited].source.read_bytes() == b"edited since"


def test_a_file_that_has_both_names_as_two_files_keeps_them_and_the_others_return(
    studio: Any, announced: MoveGroup, iceland: Any
) -> None:
    jpg, *others = announced.moves
    jpg.source.rename(jpg.target)
    for move in others:
        move.target.parent.mkdir(exist_ok=True)
        move.target.write_bytes(b"other 7")
    assert _take_back(studio, iceland.id) == 1
    assert _where(announced) == ["s", "st", "st"]
    assert {move.target.read_bytes() for move in others} == {b"other 7"}


def test_a_step_returns_files_only_while_it_has_claimed_all_their_projects(
    studio: Any, announced: MoveGroup, iceland: Any, norway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweden = studio.project("Sweden")
    move = FileMove(studio.folder(iceland).path / "owl.jpg", studio.folder(sweden).path / "owl.jpg", size_bytes=7)
    claim_projects, claims = project_claim.claim_projects, []

    def claim(database: Any, project_ids: Any, **options: Any) -> bool:
        claims.append(list(project_ids))
        if claims[-1] == [iceland.id, norway.id]:
            # Another job had claimed Iceland in between, and died during a move to a third project.
            _announce(studio, MoveGroup([move], project_id=iceland.id, target_project_id=sweden.id))
        return claim_projects(database, project_ids, **options)

    def return_files(database: Any, library: Any, intents: list[MoveIntent]) -> int:
        with database.connect() as connection:
            claimed = set(connection.execute(select(project_claims.c.project_id)).scalars())
        assert {one.target_project_id for one in intents} | {iceland.id} <= claimed
        return take_back(database, library, intents)

    monkeypatch.setattr(project_claim, "claim_projects", claim)
    monkeypatch.setattr(step_context, "take_back", return_files)
    assert studio.run("manifest_check", project_id=iceland.id).status == "completed"
    assert claims == [[iceland.id], [iceland.id, norway.id], [iceland.id, norway.id, sweden.id]]
    assert interrupted(studio.database, [iceland.id]) == []
