"""The runner process: registers each definition as a deployment in Prefect, and starts its flow runs.

`photojobs up` and `photojobs serve` start the process, in a separate session. `Serving.update` decides which
definitions get a deployment, and `deployments.deploying.runner_deployments` what the deployment contains. The setting
`max_flow_runs` limits how many flow runs run at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runner import Runner

from deployments.deploying.definitions_on_server import all_deployments, our_deployments
from deployments.deploying.forms import Choices
from deployments.deploying.registration import (
    begin_registration,
    finish_registration,
    pause_missing,
    remove_stale_runs,
    restore_parameters,
)
from deployments.deploying.runner_deployments import deployment_of, drain_deployment, update_form
from deployments.deploying.scheduled_definitions import schedules_without_effect
from deployments.serving.spare_process import use_spare_process
from deployments.serving.start_checks import foreign_reason
from flows.errors import MissingHandler
from flows.orchestration.supervision import stop_runs_when_orphaned
from flows.orchestration.task_flow import END_SECONDS
from flows.starting.deployment_names import DRAIN_PATH, deployment_path
from flows.telemetry.log_lines import structure_logs
from storage.database.private_files import create_private
from storage.errors import StorageError
from storage.settings import Settings
from task_definitions import Definitions, TaskDefinition, load_definitions
from task_definitions.difference import DefinitionDifference, compare_definitions
from task_definitions.errors import InvalidDefinition

logger = logging.getLogger("photojobs.serving")

#: The environment variable that names a file; the runner creates the file when it has served the definitions.
READY_VARIABLE = "PHOTOJOBS_UP_READY"

#: The environment variable that is set if this runner is the only one of its server. The runner may then pause
#: deployments that it does not serve.
OWN_SERVER_VARIABLE = "PHOTOJOBS_UP_OWN_SERVER"

#: Seconds between two requests to Prefect for runs that are due. A run from the UI starts within twice this time.
QUERY_SECONDS = 0.5

#: Seconds between two checks of the definition files for changes.
RELOAD_SECONDS = 2.0

#: Seconds between two checks of the deployments on the server.
DEPLOYMENTS_SECONDS = 20.0

#: After a schedule changed on the server, the planned runs of its deployment are checked for this long.
CHANGED_SECONDS = 120.0


class Serving:
    """The definitions that a runner serves, which are updated when their files change."""

    def __init__(self, runner: Runner, settings: Settings) -> None:
        self._runner = runner
        self._settings = settings
        self._served: dict[str, TaskDefinition] = {}
        self._reported: set[str] = set()
        self._choices = Choices()
        self._scheduled: dict[UUID, tuple[DeploymentScheduleCreate, ...]] = {}
        self._schedules: dict[UUID, object] = {}
        self._changed_at: dict[UUID, float] = {}
        self._seen = fingerprint(settings.definitions)

    async def follow_files(self) -> None:
        """Serve definitions whose files have changed since the last call, and update the lists in the forms.

        If this fails, for example because Prefect's server is restarted, the next call tries again.
        """
        try:
            now = await asyncio.to_thread(fingerprint, self._settings.definitions)
            if now != self._seen:
                await self.update()
                self._seen = now
            await self.update_choices()
        except Exception as error:  # noqa: BLE001 - after an error here, no change would ever be served.
            self._say(f"the changed definitions could not be served ({error}); this process tries again")

    async def update_choices(self) -> None:
        """Update the lists in the forms from the database; without a database, the lists stay as they are."""
        try:
            choices = await asyncio.to_thread(Choices.of_settings, self._settings)
        except StorageError as error:
            self._say(
                f"the lists of choices in Prefect's forms could not be updated ({error}); this process tries again"
            )
            return
        if choices == self._choices:
            return
        before, self._choices = self._choices, choices
        try:
            await asyncio.to_thread(self._update_forms)
        except (httpx.HTTPError, PrefectException) as error:
            # Forget the new lists, so that the next call updates the forms.
            self._choices = before
            self._say(f"Prefect's forms could not be updated ({error}); this process tries again")

    def _update_forms(self) -> None:
        with get_client(sync_client=True) as client:
            deployments = [self._deployment(definition) for definition in self._served.values()]
            if deployments:
                deployments.append(self._drain_deployment())
            for deployment in deployments:
                # A deployment that a user deleted is registered again at the next start.
                with suppress(ObjectNotFound):
                    update_form(client, deployment)

    async def serve_drain(self) -> None:
        """Serve the deployment that runs standalone jobs."""
        await self._register(await asyncio.to_thread(self._drain_deployment))

    def _drain_deployment(self) -> RunnerDeployment:
        return drain_deployment(choices=self._choices)

    def _deployment(self, definition: TaskDefinition) -> RunnerDeployment:
        return deployment_of(definition, self._settings, choices=self._choices)

    async def update(self) -> None:
        """Serve new and changed definitions, and pause removed ones; each error is reported once."""
        definitions = load_definitions(self._settings.definitions, strict=False)
        self._report(definitions)
        for difference in compare_definitions(self._served, definitions):
            if difference.kind == "removed":
                await self._pause(deployment_path(self._served[difference.name]))
                del self._served[difference.name]
            else:
                await self._serve(definitions[difference.name], difference)

    async def _serve(self, definition: TaskDefinition, difference: DefinitionDifference) -> None:
        try:
            # The deployment is built in a thread, because its first build imports handlers, and because Prefect's
            # function returns a coroutine if its thread has an event loop.
            deployment = await asyncio.to_thread(self._deployment, definition)
        except (MissingHandler, InvalidDefinition) as error:
            self._say(f"{definition.name}: {error}" if isinstance(error, MissingHandler) else str(error))
            return
        if not await self._register(deployment):
            return
        before = self._served.get(definition.name)
        if before is not None and deployment_path(before) != deployment_path(definition):
            # A new label means a new deployment. Without the pause, the former deployment's schedule would run too.
            await self._pause(deployment_path(before))
        self._served[definition.name] = definition
        logger.info("%s", difference)

    async def _register(self, deployment: RunnerDeployment) -> bool:
        """Serve a deployment, unless it belongs to a work pool; return True if it is served."""
        with get_client(sync_client=True) as client:
            registration = await asyncio.to_thread(begin_registration, client, deployment)
            if registration.known is not None and registration.known.work_pool_name is not None:
                self._say_pooled(registration.known)
                return False
            deployment_id = await self._runner.aadd_deployment(deployment)
            await asyncio.to_thread(finish_registration, client, registration, deployment_id)
        self._scheduled[deployment_id] = registration.declared
        return True

    def _say_pooled(self, deployment: DeploymentResponse) -> None:
        self._say(
            f"{deployment.name}: its deployment belongs to the work pool {deployment.work_pool_name}, whose workers "
            "start its runs. To run it here, delete the deployment in Prefect's pages and restart `photojobs up`."
        )

    async def watch_deployments(self) -> None:
        """Repair schedules, and stop serving deployments, after users changed them on the server.

        A schedule loses its parameters when a user switches it on or off in Prefect's pages; this method restores the
        parameters. Deployments that users moved to a work pool are left to the workers of the pool.
        """
        try:
            for deployment in await asyncio.to_thread(self._watched):
                self._leave_to_pool(deployment)
        except Exception as error:  # noqa: BLE001 - after an error here, no deployment would ever be checked again.
            self._say(f"the deployments on Prefect's server could not be checked ({error}); this process tries again")

    def _watched(self) -> list[DeploymentResponse]:
        """Repair the schedules and their planned runs, and return the deployments that belong to a work pool."""
        pooled = []
        with get_client(sync_client=True) as client:
            ours = DeploymentFilter(id=DeploymentFilterId(any_=list(self._scheduled)))
            for deployment in all_deployments(client, ours):
                if deployment.work_pool_name is not None:
                    pooled.append(deployment)
                    continue
                declared = self._scheduled[deployment.id]
                if restore_parameters(client, deployment, declared):
                    logger.info(
                        "%s: schedules had lost their parameters on the server; the declared parameters were restored",
                        deployment.name,
                    )
                if self._was_changed_lately(deployment):
                    remove_stale_runs(client, deployment.id, declared)
        return pooled

    def _was_changed_lately(self, deployment: DeploymentResponse) -> bool:
        """Return whether a pause or the schedules changed so lately that the scheduler may still write stale runs."""
        schedules = [(each.id, each.active, each.schedule, each.parameters) for each in deployment.schedules]
        now, state = time.monotonic(), (deployment.paused, schedules)
        if self._schedules.get(deployment.id) != state:
            self._schedules[deployment.id], self._changed_at[deployment.id] = state, now
        return now - self._changed_at[deployment.id] < CHANGED_SECONDS

    def _leave_to_pool(self, deployment: DeploymentResponse) -> None:
        # Prefect has no public function that removes a deployment from a runner.
        self._runner._deployment_registry._deployment_ids.discard(deployment.id)
        del self._scheduled[deployment.id]
        self._served.pop((deployment.entrypoint or "").rpartition(".")[2], None)
        self._say_pooled(deployment)

    async def _pause(self, path: str) -> None:
        if await asyncio.to_thread(_pause, path):
            logger.info("%s: its definition was removed or has a new label; the deployment is paused", path)

    async def pause_removed(self) -> None:
        """Pause deployments whose definition was removed while no runner was up; call it once, after `update`."""
        definitions = load_definitions(self._settings.definitions, strict=False)
        known = {DRAIN_PATH, *(deployment_path(definition) for definition in definitions.values())}
        for path in await asyncio.to_thread(_served_before, known):
            await self._pause(path)

    def _report(self, definitions: Definitions) -> None:
        for error in definitions.errors:
            self._say(str(error))
        for says in schedules_without_effect(definitions, self._settings):
            self._say(says)

    def _say(self, problem: str) -> None:
        if problem not in self._reported:
            self._reported.add(problem)
            logger.error("%s", problem)


def _served_before(known: Collection[str]) -> list[str]:
    """Return the paths of deployments that an earlier runner served, without those in `known` and those of pools."""
    with get_client(sync_client=True) as client:
        return [
            path
            for path, deployment in our_deployments(client).items()
            if path not in known and deployment.work_pool_name is None and foreign_reason(deployment) is None
        ]


def _pause(path: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            return pause_missing(client, client.read_deployment_by_name(path))
        except ObjectNotFound:
            return False


async def serve(settings: Settings) -> None:
    """Serve the definitions, and reload their files when they change, until this process is stopped."""
    runner = Runner(
        name="photojobs", query_seconds=QUERY_SECONDS, limit=settings.max_flow_runs, pause_on_shutdown=False
    )
    serving = Serving(runner, settings)
    await serving.update_choices()
    await serving.update()
    await serving.serve_drain()
    if OWN_SERVER_VARIABLE in os.environ:
        await serving.pause_removed()
    await use_spare_process()
    ready = os.environ.get(READY_VARIABLE)
    if ready:
        create_private(Path(ready))
    watching = [
        asyncio.create_task(_repeat(serving.follow_files, RELOAD_SECONDS)),
        asyncio.create_task(_repeat(serving.watch_deployments, DEPLOYMENTS_SECONDS)),
    ]
    try:
        await runner.start()
    finally:
        for task in watching:
            task.cancel()


async def _repeat(call: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
    while True:
        await asyncio.sleep(pause_seconds)
        await call()


def fingerprint(source: Path | None) -> Mapping[str, tuple[int, int]]:
    """Return the size and modification time of each definition file; a difference means that a file changed."""
    if source is None:
        return {}
    files = [source] if source.is_file() else sorted(source.glob("*")) if source.is_dir() else []
    found = {}
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found[str(file)] = (status.st_size, status.st_mtime_ns)
    return found


def main() -> None:
    """Run the runner process."""
    # The handler is on our own logger, because Prefect replaces the handlers of the root logger.
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("photojobs")
    ours.handlers = [handler]
    ours.propagate = False
    ours.setLevel(logging.INFO)
    settings = Settings.load()
    structure_logs(settings, handler=handler)
    stop_runs_when_orphaned(end_within_seconds=settings.drain_seconds + END_SECONDS)
    asyncio.run(serve(settings))
