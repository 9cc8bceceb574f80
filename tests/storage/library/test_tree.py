"""A tree shows each file or folder that was moved, added or removed, also a file with two names."""

from __future__ import annotations

import os
from pathlib import Path

from storage.library.tree import LibraryTree


def test_the_thumbnail_and_the_preview_are_two_things_though_they_may_be_one_file(tmp_path: Path) -> None:
    root = tmp_path / "library"
    names = [root / project / folder / "a.webp" for project in ("Alps", "Iceland") for folder in (".thumb", ".preview")]
    for name in names:
        name.parent.mkdir(parents=True)
    thumb, preview, moved_thumb, moved_preview = names
    with LibraryTree(root, tmp_path / "scratch.db") as tree:
        tree.look()
        preview.write_bytes(b"picture")
        os.link(preview, thumb)
        assert [(change.action, change.target) for change in tree.changes()] == [
            ("came", preview.relative_to(root)),
            ("came", thumb.relative_to(root)),
        ]
        thumb.rename(moved_thumb)
        preview.rename(moved_preview)
        assert [(change.action, change.source, change.target) for change in tree.changes()] == [
            ("moved", preview.relative_to(root), moved_preview.relative_to(root)),
            ("moved", thumb.relative_to(root), moved_thumb.relative_to(root)),
        ]
        moved_preview.unlink()
        assert [(change.action, change.source) for change in tree.changes()] == [
            ("went", moved_preview.relative_to(root))
        ]
