"""Tests in this folder see only the built-in step types, also if other tests have registered more."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _only_builtin_step_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("task_definitions.step_types._registered", {})
