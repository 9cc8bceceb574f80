"""Starts and stops everything that `photojobs up` needs.

These are Prefect's server, the runner, the sweeps, the recovery of flow runs, the requests for Drain Queue and the
metrics. A server or runner that dies is restarted. `deployments.server.kept_process` decides when. The setting
`drain_seconds` limits the time in which flow runs must end.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from deployments.embedded_server.password import AUTH_FILE, login_link
from deployments.errors import AlreadyUp, RunnerFailed
from deployments.import_outside_gc import imported_outside_gc, launched
from deployments.metrics.endpoint import metrics_endpoint
from deployments.server.kept_process import KeptProcess, end_process
from deployments.server.prefect_server import LOOPBACK, die_with_parent, prefect_server
from deployments.server.running_up import SERVER_FOLDER, RunningUp, announced, prefect_home
from deployments.server.server_log import SERVER_LOG, errors_shown
from flows.execution.sweep import Sweeper
from flows.orchestration.supervision import FOLDER_VARIABLE, request_stop, running_processes, withdraw_stop
from flows.process.runtime import Runtime
from storage.database.answer_watch import wait_for_end
from storage.database.private_files import make_private_folder, open_private, open_private_log
from storage.settings import Settings
from task_definitions.wording import quantity

logger = logging.getLogger("photojobs.up")

#: Seconds between two searches for tasks and jobs that no process follows.
RECOVERY_SECONDS = 5.0

#: Planned runs get readable names once in this many searches, which is often enough: Prefect plans once a minute.
NAMING_ROUNDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The addresses of the API, the UI and the metrics of a running `up`.

    Attributes:
        login_url: opens the UI without a prompt for the password; None for a server that `PREFECT_API_URL` names.
        password_file: contains the password; None for a server that `PREFECT_API_URL` names.
        metrics_url: the address of the metrics; None if this process serves no metrics.
    """

    api_url: str
    login_url: str | None = None
    password_file: Path | None = None
    metrics_url: str | None = None

    @property
    def ui_url(self) -> str:
        """The address of the UI."""
        return self.api_url.removesuffix("/api")


@contextmanager
def up(settings: Settings, *, home: Path, port: int | None, host: str = LOOPBACK) -> Iterator[Running]:
    """Run the server and everything that runs tasks during the block; at its end, return running jobs to the queue.

    Args:
        settings: where the database, the library and the definitions are.
        home: the folder for the server's database, the logs, and marker files of running processes.
        port: the port of the embedded server; None for any free port.
        host: the address that an embedded server listens on; by default the loopback.

    Raises:
        AlreadyUp: another `up` uses the same folder.
        PortInUse: the port is taken.
        AddressNotUsable: this process may not listen on the address or port.
        MetricsNotServed: the address for metrics does not belong to this machine, or may not be used.
        PrefectHomeTooNew: a newer Prefect has used the server's folder.
        PrefectServerFailed: the server could not be started.
        RunnerFailed: the runner could not be started.
    """
    make_private_folder(home)
    runs = home / "runs"
    with ExitStack() as stack:
        stack.enter_context(_only_one(home))
        runtime = stack.enter_context(Runtime.open(settings))
        if running_processes(runs):
            # These flow runs outlived their `up`, have noticed its death, and are returning their jobs to the queue.
            _end_runs(runs, settings.drain_seconds)
        # Read this before the server is started, which changes PREFECT_HOME in this process.
        known_home = prefect_home(runtime.database)
        log = None if os.environ.get("PREFECT_API_URL") else home / SERVER_FOLDER / SERVER_LOG
        log_begins_at = log.stat().st_size if log is not None and log.exists() else 0
        api_url = stack.enter_context(
            prefect_server(home / SERVER_FOLDER, host=host, port=port, hosts=settings.server_hosts)
        )
        if log is not None:
            stack.enter_context(errors_shown(log, since=log_begins_at))
        stack.enter_context(_runner(home, runs, runtime, is_own_server=log is not None))
        stack.enter_context(Sweeper(runtime))
        stack.enter_context(_recovering_flow_runs(runtime))
        metrics_url = stack.enter_context(metrics_endpoint(runtime.database, settings))
        announcement = RunningUp(
            api_url=api_url,
            database=runtime.database.url,
            process_id=os.getpid(),
            server_log=None if log is None else str(log.absolute()),
            log_begins_at=log_begins_at,
        )
        stack.enter_context(announced(known_home, announcement))
        running = Running(api_url=api_url, metrics_url=metrics_url)
        if log is not None:
            link = login_link(running.ui_url, os.environ["PREFECT_API_AUTH_STRING"])
            running = replace(running, login_url=link, password_file=home / SERVER_FOLDER / AUTH_FILE)
        yield running


@contextmanager
def _runner(home: Path, runs: Path, runtime: Runtime, *, is_own_server: bool) -> Iterator[None]:
    with imported_outside_gc():
        from deployments.serving.runner import OWN_SERVER_VARIABLE, READY_VARIABLE

    drain_seconds = runtime.settings.drain_seconds
    ready = home / "runner.ready"
    log_path = home / "runner.log"

    def launch() -> subprocess.Popen[bytes]:
        # A file in `runs` asks flow runs to stop. It is removed as late as here, because the runner of an `up` that was
        # just killed writes the file a moment after the kill.
        withdraw_stop(runs)
        _prepare_runs(runtime)
        ready.unlink(missing_ok=True)
        return subprocess.Popen(  # noqa: S603 - our own module.
            launched("deployments.serving.runner"),
            env=os.environ
            | {FOLDER_VARIABLE: str(runs.absolute()), READY_VARIABLE: str(ready.absolute())}
            | ({OWN_SERVER_VARIABLE: "1"} if is_own_server else {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The runner gets its own session, so that Ctrl-C returns jobs to the queue instead of canceling all flow
            # runs.
            start_new_session=True,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )

    def stop(process: subprocess.Popen[bytes]) -> None:
        # Flow runs end before the runner, which would cancel them when it stops.
        _end_runs(runs, drain_seconds)
        end_process(process, signal.SIGTERM, limit_seconds=10)

    runner = KeptProcess(
        name="the runner",
        launch=launch,
        is_ready=ready.exists,
        failed=RunnerFailed,
        stop=stop,
        log_path=log_path,
    )
    with open_private_log(log_path) as log, runner.running():
        yield


def _prepare_runs(runtime: Runtime) -> None:
    """Restart runs that have lost their process, and skip missed runs; call this before a runner starts.

    Raises:
        RunnerFailed: Prefect's server is unavailable.
    """
    import httpx

    from deployments.serving.flow_run_recovery import revive_runs_left_behind
    from deployments.serving.missed_runs import skip_missed_runs

    failed = "flow runs without a process could not be restarted"
    try:
        revived = revive_runs_left_behind(runtime)
        failed = "missed scheduled runs could not be skipped"
        skipped = skip_missed_runs()
    except httpx.TransportError as error:
        url = os.environ.get("PREFECT_API_URL")
        reason = str(error).rstrip(".")
        raise RunnerFailed(f"Prefect's server at {url} does not answer: {reason}. Check that it runs.") from error
    except Exception as error:  # noqa: BLE001 - the runner must start anyway.
        logger.warning("%s (%s); restart `photojobs up` to try again", failed, error)
        return
    if revived:
        logger.info("restarted %s that had no process", quantity(revived, "flow run"))
    if skipped:
        logger.info(
            "skipped %s; the latest missed run of each schedule runs now", quantity(skipped, "missed scheduled run")
        )


@contextmanager
def _recovering_flow_runs(runtime: Runtime) -> Iterator[None]:
    from deployments.serving.drain_requests import DrainRequests
    from deployments.serving.flow_run_recovery import FlowRunRecovery
    from deployments.serving.scheduled_run_names import name_scheduled_runs

    stopped = threading.Event()

    def run() -> None:
        recovery = FlowRunRecovery(runtime)
        drain_requests = DrainRequests(runtime.database)
        for number in count():
            if stopped.wait(RECOVERY_SECONDS):
                return
            failed = "flow runs of dead processes could not be searched for"
            try:
                recovery.search()
                failed = "no run of Drain Queue could be requested for standalone jobs"
                drain_requests.request_if_needed()
                if number % NAMING_ROUNDS == 0:
                    failed = "planned flow runs could not be renamed"
                    name_scheduled_runs()
            except Exception as error:  # noqa: BLE001 - the next search may find the server and database again.
                logger.warning("%s (%s); trying again in %g s", failed, error, RECOVERY_SECONDS)

    thread = threading.Thread(target=run, name="photojobs-recovery", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        wait_for_end(thread)


def _end_runs(runs: Path, limit_seconds: float) -> None:
    request_stop(runs)
    give_up_at = time.monotonic() + limit_seconds
    while process_ids := running_processes(runs):
        if time.monotonic() > give_up_at:
            for process_id in process_ids:
                logger.warning("flow-run process %d did not end within %g s; it is killed", process_id, limit_seconds)
                with suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
            return
        time.sleep(0.1)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    import fcntl

    file = home / "up.lock"
    with open_private(file) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUp(
                f"another `photojobs up` or `serve` uses the folder {home}; stop that one, or name another --folder"
            ) from None
        except OSError as error:
            # A network file system may have no locks.
            raise OSError(error.errno, error.strerror, str(file)) from None
        yield
