"""A spare process, which has already imported everything, starts the next flow run."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import anyio
import pytest
from prefect.settings import get_current_settings

from deployments.serving import spare_process
from deployments.serving.spare_process import SpareProcess

ENGINE = [sys.executable, "-m", "prefect.engine"]


def without_run(**changed: str) -> dict[str, str]:
    """Return the environment of a new process without a flow run, so that Prefect's engine ends with code 1."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return os.environ | settings | {"PREFECT__FLOW_RUN_ID": "no id"} | changed


class Prefects:
    """Replaces Prefect's function that starts a process, and records its calls."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    async def start(self, command: list[str], *, env: dict[str, str], **_: Any) -> None:
        assert command == ENGINE
        self.asked.append(env)


async def run(spare: SpareProcess, environment: dict[str, str], **options: Any) -> Any:
    return await spare.run_process(
        ENGINE,
        env=environment,
        task_status=anyio.TASK_STATUS_IGNORED,
        task_status_handler=lambda process: process,
        **options,
    )


def test_a_flow_run_gets_the_process_that_was_prepared_and_the_next_one_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spare_process, "PREPARE_AFTER_SECONDS", 3600.0)

    async def scenario() -> None:
        prefects = Prefects()
        spare = SpareProcess(prefects.start)
        await spare.prepare()
        prepared = spare._prepared
        assert prepared is not None

        ended = await run(spare, without_run())
        assert (ended.pid, ended.returncode, prefects.asked) == (prepared.pid, 1, [])

        await run(spare, without_run())
        assert [asked["PREFECT__FLOW_RUN_ID"] for asked in prefects.asked] == ["no id"]

    asyncio.run(scenario())


@pytest.mark.slow
def test_other_settings_or_another_folder_need_a_new_process_and_one_without_a_runner_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spare_process, "PREPARE_AFTER_SECONDS", 0.0)

    async def scenario() -> None:
        prefects = Prefects()
        spare = SpareProcess(prefects.start)
        await spare.prepare()
        prepared = spare._prepared
        assert prepared is not None
        assert prepared.stdin is not None

        await run(spare, without_run(PREFECT_API_URL="http://elsewhere/api"))
        await run(spare, without_run(), cwd="elsewhere")
        assert len(prefects.asked) == 2

        await prepared.stdin.aclose()
        assert await prepared.wait() == 0
        await run(spare, without_run())
        assert len(prefects.asked) == 3

        # A spare process that has ended is replaced, like one that a flow run took.
        assert spare._preparing is not None
        await spare._preparing
        assert spare._prepared is not None
        spare._prepared.kill()
        await spare._prepared.wait()

    asyncio.run(scenario())
