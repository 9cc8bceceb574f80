"""After an undo, columns that the task wrote have their earlier values, and columns changed since keep theirs."""

from __future__ import annotations

from typing import Any

import pytest

from flows.undoing.reversal import CannotComeBack, Reversal
from storage.history.journal import FileAction, JournalEntry
from tests.conftest import START

#: A derivative, an original and the metadata as a snapshot of a row has them.
THUMBNAIL = {"generated_at": "2025-10-01", "source_name": "fox.jpg", "source_size": 7}
STATE: dict[str, Any] = {
    "project_id": 1,
    "filename": "fox",
    "visibility": "private",
    "rating": 3,
    "jpg_available": 1,
    "raw_available": 0,
    "keep_jpg": 1,
    "keep_raw": 1,
    "thumbnail_status": "generated",
    "preview_status": None,
    "updated_at": "now",
    "tags": ["animal"],
    "tag_ids": [11],
    "derivatives": {"thumbnail": THUMBNAIL},
    "originals": {"fox.jpg": 1},
}


def _state(**changes: Any) -> dict[str, Any]:
    return {**STATE, **changes}


def _undo(
    state: dict[str, Any] | None, action: FileAction, row: Any, *, edited: frozenset[str] = frozenset()
) -> Reversal:
    entry = JournalEntry(
        id=1,
        tenant_id="tenant",
        task_id="task",
        job_id=1,
        project_id=1,
        photo_id=1,
        action=str(action),
        source="tenant/Iceland/fox",
        target=None,
        size_bytes=None,
        row_json=row,
        created_at=START,
        undone_at=None,
    )
    reversal = Reversal(state, edited)
    reversal.take_back(entry)
    return reversal


def _change_back(state: dict[str, Any] | None, before: dict[str, Any], after: dict[str, Any], **more: Any) -> Reversal:
    return _undo(state, FileAction.CHANGED_ROW, {"before": before, "after": after, **more})


def test_an_added_row_that_is_as_the_task_left_it_is_removed() -> None:
    added = {name: value for name, value in STATE.items() if name != "tags"} | {"tags": ["animal"]}
    # The time of a change, the ids of tags and what is computed from the original do not count.
    since = _state(updated_at="later", tag_ids=[12], thumbnail_status="missing", derivatives={}, originals={})
    assert _undo(since, FileAction.ADDED_ROW, {"after": added}).state is None
    assert _undo(None, FileAction.ADDED_ROW, {"after": added}).state is None


@pytest.mark.parametrize("change", [{"rating": 5}, {"rating": 1}, {"tags": ["animal", "arctic"]}, {"filename": "elk"}])
def test_an_added_row_that_was_edited_since_is_kept(change: dict[str, Any]) -> None:
    with pytest.raises(CannotComeBack, match="edited since"):
        _undo(_state(**change), FileAction.ADDED_ROW, {"after": STATE})


@pytest.mark.parametrize(
    ("change", "is_edited"),
    [
        ({}, False),
        ({"tags": ["animal"]}, True),
        ({"visibility": "public"}, True),
        ({"visibility": "a"}, True),
        ({"keep_jpg": 0}, True),
        ({"keep_raw": 0}, False),
        ({"keep_raw": 0, "raw_available": 1}, True),
        ({"raw_available": 1}, False),
        ({"filename": "elk"}, True),
        ({"project_id": 2}, True),
        ({"manifest_id": "a"}, True),
        ({"date_time_original": "2024-01-01"}, True),
        ({"orientation": 6}, True),
        ({"meta_json": {"stars": 5}}, True),
        ({"meta_json": {"make": "A"}, "derivatives": {"metadata": {}}}, False),
    ],
)
def test_without_its_first_values_an_added_row_is_kept_if_a_user_has_worked_on_it(
    change: dict[str, Any], is_edited: bool
) -> None:
    state = _state(**{"tags": [], **change})
    if is_edited:
        with pytest.raises(CannotComeBack, match="edited since"):
            _undo(state, FileAction.ADDED_ROW, None)
    else:
        assert _undo(state, FileAction.ADDED_ROW, None).state is None


def test_a_removed_row_comes_back_with_all_that_the_journal_has() -> None:
    found = _undo(None, FileAction.REMOVED_ROW, {"filename": "fox", "thumbnail_status": "generated", "tags": ["a"]})
    assert found.state == {
        "tags": ["a"],
        "tag_ids": [],
        "derivatives": {},
        "originals": {},
        "filename": "fox",
        "thumbnail_status": "generated",
    }
    assert found.wanted == {"thumbnail"}
    with pytest.raises(CannotComeBack, match="another photo"):
        _undo(STATE, FileAction.REMOVED_ROW, {"filename": "fox"})
    with pytest.raises(CannotComeBack, match="no copy"):
        _undo(None, FileAction.REMOVED_ROW, {})


def test_a_changed_column_gets_its_earlier_value_only_if_it_was_not_changed_again() -> None:
    before, after = {"rating": 1, "visibility": "public"}, {"rating": 3, "visibility": "friends"}
    found = _change_back(STATE, before, after)
    assert found.state == _state(rating=1)
    assert found.kept == {"visibility"}
    assert STATE["rating"] == 3
    with pytest.raises(CannotComeBack, match="removed since"):
        _change_back(None, before, after)


@pytest.mark.parametrize("column", ["project_id", "filename"])
def test_a_photo_that_was_moved_or_renamed_again_does_not_come_back(column: str) -> None:
    earlier, later = (2, 3) if column == "project_id" else ("elk", "hare")
    assert _change_back(STATE, {column: earlier}, {column: STATE[column]}).state == _state(**{column: earlier})
    with pytest.raises(CannotComeBack, match="moved or renamed"):
        _change_back(STATE, {column: earlier}, {column: later})


def test_tags_come_back_together_unless_they_were_changed_again() -> None:
    before, after = {"tag_ids": [5], "tags": ["bird"]}, {"tag_ids": [11], "tags": ["animal"]}
    found = _change_back(STATE, before, after, new_tags=[11])
    assert (found.state, found.unneeded_tags, found.kept) == (_state(tag_ids=[5], tags=["bird"]), [11], set())
    found = _change_back(STATE, {"tag_ids": [5]}, {"tag_ids": [11]})
    assert (found.state, found.unneeded_tags) == (_state(tag_ids=[5]), [])
    found = _change_back(_state(tag_ids=[12]), before, after, new_tags=[11])
    assert (found.state, found.unneeded_tags, found.kept) == (_state(tag_ids=[12]), [], {"tags"})


def test_a_derivative_that_the_task_made_goes_and_one_that_it_lost_is_wanted() -> None:
    before = {"thumbnail_status": None, "derivatives": {}}
    after = {"thumbnail_status": "generated", "derivatives": {"thumbnail": THUMBNAIL}}
    found = _change_back(STATE, before, after, made=["thumbnail"])
    assert (found.state, found.made, found.wanted) == (
        _state(thumbnail_status=None, derivatives={}),
        {"thumbnail"},
        set(),
    )
    # It was there before the task, which only recorded it.
    assert _change_back(STATE, before, after).made == set()
    lost = _state(thumbnail_status="missing", derivatives={})
    found = _change_back(lost, after, {"thumbnail_status": "missing", "derivatives": {}}, made=["thumbnail"])
    assert (found.state, found.made, found.wanted) == (STATE, set(), {"thumbnail"})


@pytest.mark.parametrize(
    "since",
    [
        {"thumbnail_status": "missing"},
        {"derivatives": {"thumbnail": {**THUMBNAIL, "source_size": 8}}},
        {"derivatives": {}},
    ],
)
def test_a_derivative_that_was_made_or_lost_again_is_kept(since: dict[str, Any]) -> None:
    before = {"thumbnail_status": None, "derivatives": {}}
    after = {"thumbnail_status": "generated", "derivatives": {"thumbnail": THUMBNAIL}}
    found = _change_back(_state(**since), before, after, made=["thumbnail"])
    assert (found.state, found.kept, found.made) == (_state(**since), {"thumbnail_status"}, set())


@pytest.mark.parametrize(
    ("change", "comes_back"),
    [
        ({"source_name": "elk.jpg"}, True),
        ({"generated_at": "2025-10-02"}, True),
        ({"generated_at": "2025-10-02", "source_name": "elk.jpg"}, False),
    ],
)
def test_a_derivative_that_was_only_renamed_or_made_twice_gets_its_earlier_values(
    change: dict[str, Any], comes_back: bool
) -> None:
    earlier = {**THUMBNAIL, **change}
    found = _change_back(STATE, {"derivatives": {"thumbnail": earlier}}, {"derivatives": {"thumbnail": THUMBNAIL}})
    assert found.state == _state(derivatives={"thumbnail": earlier if comes_back else THUMBNAIL})
    assert found.kept == set()
    again = _state(derivatives={"thumbnail": {**THUMBNAIL, "source_size": 9}})
    found = _change_back(again, {"derivatives": {"thumbnail": earlier}}, {"derivatives": {"thumbnail": THUMBNAIL}})
    assert found.state == again


def test_what_an_undo_forgot_about_a_missing_derivative_is_known_again() -> None:
    before, after = {"derivatives": {"thumbnail": THUMBNAIL}}, {"derivatives": {}}
    forgotten = _state(thumbnail_status="missing", derivatives={})
    assert _change_back(forgotten, before, after).state == _state(thumbnail_status="missing")
    made_again = _state(derivatives={"thumbnail": {**THUMBNAIL, "source_size": 9}})
    assert _change_back(made_again, before, after).state == made_again


def test_metadata_and_originals_come_back_unless_they_were_read_again() -> None:
    before = {"derivatives": {"metadata": {"a": 1}, "thumbnail": THUMBNAIL}, "originals": {"elk.jpg": 1}}
    after = {"derivatives": {"metadata": {"a": 2}, "thumbnail": THUMBNAIL}, "originals": {"fox.jpg": 1}}
    read = _state(derivatives={"metadata": {"a": 2}, "thumbnail": THUMBNAIL})
    found = _change_back(read, before, after)
    assert found.state == _state(derivatives=before["derivatives"], originals={"elk.jpg": 1})
    again = _state(derivatives={"metadata": {"a": 3}, "thumbnail": THUMBNAIL}, originals={"fox.jpg": 2})
    # The file gets its former name, and what was found since is known of it there.
    assert _change_back(again, before, after).state == {**again, "originals": {"elk.jpg": 2}}
    added = _state(originals={"fox.jpg": 2, "fox.NEF": 3})
    assert _change_back(added, before, after).state == {**added, "originals": {"elk.jpg": 2, "fox.NEF": 3}}
    edited = {"originals": {"fox.jpg": 0}}
    assert _change_back(again, edited, {"originals": {"fox.jpg": 1}}).state == again
    first = {"derivatives": {"thumbnail": THUMBNAIL}}
    assert _change_back(read, first, after).state == STATE


def test_an_added_row_is_kept_with_the_names_of_all_columns_that_were_changed_since() -> None:
    state = _state(tags=["animal"], visibility="public")
    with pytest.raises(CannotComeBack, match=r"\(stars, tags, visibility\)"):
        _undo(state, FileAction.ADDED_ROW, None, edited=frozenset({"stars"}))
    with pytest.raises(CannotComeBack, match=r"\(stars\)"):
        _undo(_state(), FileAction.ADDED_ROW, {"after": STATE}, edited=frozenset({"stars"}))
