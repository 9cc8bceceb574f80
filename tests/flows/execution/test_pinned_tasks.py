"""A task keeps the definition with which it was started, also if the definition's file changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.api.start import start_task
from flows.execution.worker import Worker
from flows.process.runtime import Runtime
from storage import Database, TasksRepository
from tests.flows.conftest import quick_settings

STARTED = {
    "changing": {
        "label": "As it was",
        "scope": "global",
        "steps": [{"type": "wait_at_gate", "priority": 95}, {"type": "count", "priority": 50}],
    }
}
EDITED = {
    "changing": {
        "label": "As it is now",
        "scope": "global",
        "steps": [{"type": "stumble", "priority": 5}, {"type": "stumble", "priority": 5}],
    }
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "definitions.json"
    path.write_text(json.dumps(STARTED))
    return path


@pytest.fixture
def reading(tmp_path: Path, sqlite_url: str, file: Path) -> Iterator[Runtime]:
    settings = quick_settings(tmp_path, definitions=file)
    with Runtime(Database(sqlite_url), settings=settings) as opened, opened.as_current():
        yield opened


@pytest.mark.parametrize(
    "change", [lambda file: file.write_text(json.dumps(EDITED)), Path.unlink], ids=["edited", "deleted"]
)
def test_a_task_ends_as_it_was_started(change: Callable[[Path], Any], reading: Runtime, file: Path, stage: Any) -> None:
    entered = stage.entered.setdefault("gate", threading.Event())
    started = start_task(type="changing", tenant_id="user_0")
    worker = Worker(reading)
    thread = threading.Thread(target=worker.drain)
    thread.start()
    assert entered.wait(30)

    change(file)
    stage.gates.setdefault("gate", threading.Event()).set()
    thread.join(30)

    task = TasksRepository(reading.database).get(started.task_id)
    assert (task.status, task.label) == ("completed", "As it was")
    assert [kind for kind, _ in stage.started] == ["wait_at_gate", "count"]
