"""Errors in the log of Prefect's server are shown to the user."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from deployments.server.server_log import ServerError, errors_in, errors_shown, errors_since
from tests.waiting import wait_until

#: As Prefect 3.8.8 logged it with SQLAlchemy 2.1.9, shortened.
LOG = """\
Check out the dashboard at http://127.0.0.1:4200

07:03:48.185 | WARNING | prefect.server.services.foreman - nothing of interest
07:03:49.185 | ERROR   | docket.dependencies - ↩ [   191ms] schedule_recent_deployments(){schedule_recent_deployments}
Traceback (most recent call last):
  File "docket/worker.py", line 1134, in _execute
    result = await execution.function(
sqlalchemy.exc.InvalidRequestError: Can't evaluate bulk DML statement
07:03:50.001 | INFO    | prefect.server - on with it
"""
ERROR = ServerError(
    "07:03:49.185",
    "docket.dependencies: ↩ [ 191ms] schedule_recent_deployments(){schedule_recent_deployments} "
    "sqlalchemy.exc.InvalidRequestError: Can't evaluate bulk DML statement",
)


def test_an_error_is_its_message_and_its_exception() -> None:
    assert list(errors_in(LOG.splitlines())) == [ERROR]
    assert ERROR.is_of_scheduler


def test_an_error_of_a_structured_log_is_the_same() -> None:
    record = {"name": "prefect.server.api", "msg": "no %s in %d", "args": ["luck", 3], "levelname": "ERROR"}
    line = json.dumps(record | {"created": 0.0, "exc_info": {"type": "OSError", "message": "disk full"}})
    warning = json.dumps(record | {"created": 0.0, "levelname": "WARNING"})

    (error,) = errors_in([warning, line])

    assert error.says == "prefect.server.api: no luck in 3 OSError: disk full"
    assert not error.is_of_scheduler


def test_an_error_of_uvicorn_is_found_too() -> None:
    lines = [
        "INFO:     Started",
        "ERROR:    Exception in ASGI application",
        "Traceback (most recent call last):",
        "E: x",
    ]

    assert [error.says for error in errors_in(lines)] == ["uvicorn: Exception in ASGI application E: x"]


def test_only_the_errors_of_this_start_count(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(LOG)
    before = log.stat().st_size
    assert errors_since(log, before) == []

    with log.open("a") as file:
        file.write(LOG)

    assert errors_since(log, before) == [ERROR]
    assert errors_since(tmp_path / "missing", 0) == []


def test_errors_are_shown_as_they_come_and_the_same_one_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.server.server_log.LOOK_SECONDS", 0.01)
    monkeypatch.setattr(logging.getLogger("photojobs"), "propagate", True)
    log = tmp_path / "server.log"
    log.write_text(LOG.replace("bulk DML", "an earlier"))

    def shown() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "photojobs.server_log"]

    with errors_shown(log, since=log.stat().st_size), log.open("a") as file:
        for number in range(3):
            file.write(LOG.replace("191ms", f"{number}ms"))
            file.flush()
        file.write(LOG.replace("schedule_recent_deployments", "db_vacuum"))
        file.flush()
        wait_until(lambda: len(shown()) == 2, what="both are shown")

    assert all(str(log) in line and "InvalidRequestError" in line for line in shown())
