"""Every Python snippet of docs/quick_reference.md runs, in the order of the page, on both databases."""

from __future__ import annotations

import json
import re
from pathlib import Path

from flows.process.runtime import Runtime
from storage import Database, PhotosRepository, Settings
from storage.database.tables import projects
from task_definitions import load_definitions

PAGE = Path(__file__).parents[2] / "docs" / "quick_reference.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_python_snippet_runs(database: Database, tmp_path: Path) -> None:
    now = database.clock()
    with database.begin() as connection:
        for project_id, name in ((123, "alps"), (124, "sea")):
            row = {"id": project_id, "project_name": name, "project_folder": name, "created_at": now, "updated_at": now}
            connection.execute(projects.insert().values(row))
    PhotosRepository(database).create_many(
        [{"project_id": 123, "filename": "img1"}, {"project_id": 124, "filename": "img2"}]
    )
    url = database.engine.url.render_as_string(hide_password=False)
    names: dict[str, object] = {"url": url, "library_root": tmp_path}

    with Runtime(database, settings=Settings.load(library_root=tmp_path)) as runtime, runtime.as_current():
        for number, snippet in enumerate(blocks("python"), start=1):
            exec(compile(snippet, f"{PAGE.name}, snippet {number}", "exec"), names)

    opened = names["db"]
    assert isinstance(opened, Database)
    opened.close()


def test_the_definition_on_the_page_is_one() -> None:
    (shown,) = blocks("json")

    assert load_definitions(json.loads(shown), builtin=False)["my_task"].label == "My Task"
