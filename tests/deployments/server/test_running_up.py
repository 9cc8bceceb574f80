"""How commands find the `photojobs up` of a database."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deployments.server.running_up import RunningUp, announced, find_running_up
from storage.database.engine import Database


@pytest.fixture
def running(sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunningUp:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    return RunningUp(
        api_url="http://127.0.0.1:4200/api",
        database=sqlite_database.url,
        process_id=os.getpid(),
        server_log=None,
        log_begins_at=0,
    )


def test_a_running_up_is_found_as_long_as_it_runs(
    sqlite_database: Database, running: RunningUp, tmp_path: Path
) -> None:
    with announced(tmp_path / "home", running):
        assert find_running_up(sqlite_database) == running
    assert find_running_up(sqlite_database) is None
    # Two can run with two folders.
    second = replace(running, api_url="http://127.0.0.1:4201/api")
    first = announced(tmp_path / "home", running)
    first.__enter__()
    with announced(tmp_path / "home", second):
        first.__exit__(None, None, None)
        assert find_running_up(sqlite_database) == second
    assert find_running_up(sqlite_database) is None


def test_a_killed_up_is_not_found_although_another_process_has_its_id(
    sqlite_database: Database, running: RunningUp, tmp_path: Path
) -> None:
    # In a container, the first process has the same id after each start.
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "up.json").write_text(json.dumps(asdict(running)))
    assert find_running_up(sqlite_database) is None
