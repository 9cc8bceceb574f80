"""Only the built-in step types are known here, whatever other tests of the process have registered."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _only_builtin_step_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("task_definitions.step_types._registered", {})
