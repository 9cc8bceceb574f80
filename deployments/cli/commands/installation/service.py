"""`photojobs up`, `serve` and `worker`: commands that run tasks and jobs until Ctrl-C or SIGTERM.

Here are the default address and port of the server of `up`. `deployments.serving.up` starts and stops everything, and
`flows.process.executor` decides how a worker stops.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from deployments.cli.options.opening import opened_database, use_password
from deployments.cli.options.parameters import Flag, Json, Several, WholeNumber
from deployments.cli.options.signals import handling
from deployments.cli.output.terminal import confirm, print_json, warn
from deployments.server.running_up import prefect_home
from storage.settings import Settings

up_app = App(name="up")
serve_app = App(name="serve")
worker_app = App(name="worker")

Port = Annotated[WholeNumber, Parameter(validator=Number(gte=0, lte=65_535))]

_END = (signal.SIGINT, signal.SIGTERM)


@up_app.default
def up(*, port: Port = 4200, host: str = "127.0.0.1", folder: Path | None = None) -> None:
    """Start Prefect's server and everything that runs tasks.

    The command serves every definition, runs the schedules, and continues work that a dead process left behind. If
    PREFECT_API_URL names a server, the command uses it and starts none. Ctrl-C or SIGTERM returns running jobs to the
    queue and stops everything. A second Ctrl-C stops at once; the next start repairs what was interrupted.

    Args:
        port: The port of the server and its UI; 0 for any free port.
        host: The address that the server listens on. With an address other than the loopback, other machines can
            connect with the password, which travels unencrypted.
        folder: The folder for the server's database and the logs; by default PREFECT_HOME, else .photojobs-prefect
            beside the SQLite file, or in the home folder for PostgreSQL.
    """
    from deployments.serving.up import up as start

    settings = _settings()
    _warn_of_named_server()
    with _until_asked_to_stop() as wait:
        confirm("starting …")
        with start(settings, home=_home(settings, folder), host=host, port=port or None) as running:
            confirm(f"up: {running.ui_url} (Ctrl-C stops)")
            if running.login_url is not None:
                # The link with the password is printed only on a terminal, because other people may read logs.
                is_seen = sys.stdout.isatty() or sys.stderr.isatty()
                confirm(f"open: {running.login_url}" if is_seen else f"the password is in {running.password_file}")
            if running.metrics_url is not None:
                confirm(f"metrics: {running.metrics_url}")
            wait()
            confirm("stopping: running jobs return to the queue …")
    confirm("stopped")


@serve_app.default
def serve(*, folder: Path | None = None) -> None:
    """Serve definitions to a Prefect server that is already running.

    PREFECT_API_URL must name the server. Except for that, the command works like `photojobs up`.

    Args:
        folder: The folder for the logs; by default the same as for `photojobs up`.
    """
    from deployments.errors import NoPrefectServer
    from deployments.serving.up import up as start

    if not os.environ.get("PREFECT_API_URL"):
        raise NoPrefectServer(
            "PREFECT_API_URL is not set. Set it to the URL of the server's API; `photojobs up` starts a server itself."
        )
    settings = _settings()
    _warn_of_named_server()
    with _until_asked_to_stop() as wait, start(settings, home=_home(settings, folder), port=None) as running:
        confirm(f"running the flow runs of {running.ui_url} (Ctrl-C stops)")
        wait()
        confirm("stopping: running jobs return to the queue …")
    confirm("stopped")


@worker_app.default
def worker(
    *,
    lane: Several = (),
    tenant: str | None = None,
    once: Flag = False,
    concurrency: WholeNumber | None = None,
    json: Json = False,
) -> None:
    """Run jobs without Prefect.

    The worker runs jobs of tasks without a flow run, standalone jobs, and jobs that other programs inserted. After
    Ctrl-C or SIGTERM it starts no more jobs. It gives running jobs the time of the setting `drain_seconds` to finish,
    and then returns them to the queue. After a second Ctrl-C or SIGTERM it returns them at once.

    Args:
        lane: Only jobs of this lane; may be given several times. By default every lane, the highest first.
        tenant: Only jobs of this tenant.
        once: End when no job is left to run.
        concurrency: How many jobs run at the same time; by default the setting `concurrency`.
    """
    from deployments.metrics.endpoint import metrics_endpoint
    from flows.execution.worker import Worker
    from flows.process.runtime import Runtime

    logging.getLogger("photojobs").setLevel(logging.INFO)
    settings = _settings(**({} if concurrency is None else {"concurrency": concurrency}))
    with opened_database(settings=settings, create=True):
        pass
    with (
        Runtime.open(settings) as runtime,
        runtime.as_current(),
        metrics_endpoint(runtime.database, settings) as metrics_url,
    ):
        at_work = Worker(runtime, lanes=lane or None, tenant_id=tenant)

        def stop(*_: Any) -> None:
            signal.signal(signal.SIGINT, lambda *_: at_work.stop_now())
            signal.signal(signal.SIGTERM, lambda *_: at_work.stop_now())
            at_work.stop()

        with handling(stop, *_END):
            if not json:
                confirm(f"worker {runtime.worker_id} begins")
            if metrics_url is not None and not json:
                confirm(f"metrics: {metrics_url}")
            summary = at_work.drain() if once else at_work.run()
    if json:
        print_json({"worker_id": runtime.worker_id, "ended": summary.ended})
        return
    ended = ", ".join(f"{number} {status}" for status, number in sorted(summary.ended.items()))
    confirm(f"worker ends: {ended or 'it ran no jobs'}")


def _settings(**overrides: Any) -> Settings:
    """Load the settings of this process, and set up the logs with them."""
    from flows.telemetry.log_lines import structure_logs

    settings = Settings.load(**overrides)
    use_password(settings)
    structure_logs(settings)
    return settings


def _warn_of_named_server() -> None:
    from deployments.doctor.finding import Standing
    from deployments.doctor.installation import examine_prefect

    for finding in examine_prefect():
        if finding.standing is not Standing.FINE:
            warn(f"{finding.says} {finding.remedy}")


def _home(settings: Settings, folder: Path | None) -> Path:
    with opened_database(settings=settings, create=True) as database:
        return folder or prefect_home(database)


@contextmanager
def _until_asked_to_stop() -> Iterator[Callable[[], object]]:
    asked = threading.Event()

    def stop(*_: Any) -> None:
        # A second Ctrl-C ends the process at once; the next start repairs what was interrupted.
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        asked.set()

    with handling(stop, *_END):
        yield asked.wait
