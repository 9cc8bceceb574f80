"""The supervision of flow-run processes: they stop when `photojobs up` asks them to, or when `photojobs up` has died.

`up` passes the name of its folder to the processes that it starts, in the environment. A flow-run process creates a
file in the folder, named after its process id, and keeps the file locked while it runs. The process regularly checks
whether its parent process is alive, and whether `up` asks it to stop. The setting `drain_seconds` limits how long the
process may take to end.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import threading
import time
from pathlib import Path
from typing import IO

from storage.database.private_files import create_private, make_private_folder, open_private

#: The environment variable in which `photojobs up` passes its folder to the processes that it starts.
FOLDER_VARIABLE = "PHOTOJOBS_UP_FOLDER"

#: The time between two checks of a flow-run process.
WATCH_SECONDS = 0.5

#: If `photojobs up` has died: how many seconds a runner may take to end after the last of its flow runs has ended.
ORPHAN_SECONDS = 5.0

_STOP_FILE = "stop"
_started = threading.Lock()
_watching: list[threading.Thread] = []
_marks: list[IO[bytes]] = []


def watch_supervisor(*, end_within_seconds: float) -> None:
    """Start the watching thread of this process if `photojobs up` started the process. Later calls do nothing.

    Args:
        end_within_seconds: how long the process may take to stop. After that it is killed, and its jobs are rescued.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return
    with _started:
        if _watching:
            return
        register(Path(folder), os.getpid())
        thread = threading.Thread(
            target=_watch,
            args=(Path(folder), os.getppid(), end_within_seconds),
            name="photojobs-supervision",
            daemon=True,
        )
        _watching.append(thread)
        thread.start()


def stop_runs_when_orphaned(*, end_within_seconds: float) -> None:
    """Stop the flow runs of this process, and end it, when the `photojobs up` that started it dies.

    The runner, which starts the processes of flow runs, calls this function. Those processes do not notice the death of
    `up` themselves: their parent is the runner, which keeps running until they end.

    Args:
        end_within_seconds: how long the flow runs may take to stop.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is not None:
        threading.Thread(
            target=_wait_for_death,
            args=(Path(folder), os.getppid(), end_within_seconds),
            name="photojobs-supervision",
            daemon=True,
        ).start()


def end_within(seconds: float) -> None:
    """Kill this process if it still runs after so many seconds. Call this when the process was asked to end.

    A second signal may interrupt Prefect while it ends its threads; Prefect would then wait for them for minutes.
    """

    def kill() -> None:
        threading.Event().wait(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, name="photojobs-end", daemon=True).start()


def register(folder: Path, process_id: int) -> None:
    """Register this flow-run process with `photojobs up` until it ends."""
    make_private_folder(folder)
    mark = open_private(folder / f"{process_id}.run")
    # A file without a lock belongs to a process that has died. Its process id alone proves nothing, because the system
    # may give the id to another process.
    fcntl.flock(mark, fcntl.LOCK_EX)
    _marks.append(mark)
    atexit.register(Path(mark.name).unlink, missing_ok=True)


def request_stop(folder: Path) -> None:
    """Ask all flow-run processes of the folder to hand back their jobs and to end."""
    make_private_folder(folder)
    create_private(folder / _STOP_FILE)


def withdraw_stop(folder: Path) -> None:
    """Withdraw the request to stop, so that flow-run processes may run again."""
    (folder / _STOP_FILE).unlink(missing_ok=True)


def running_processes(folder: Path) -> list[int]:
    """Return the ids of the registered flow-run processes that are alive. Files of dead processes are deleted."""
    alive = []
    for entry in folder.glob("[0-9]*.run"):
        process_id = int(entry.stem)
        if is_locked(entry) and _is_alive(process_id):
            alive.append(process_id)
        else:
            entry.unlink(missing_ok=True)
    return sorted(alive)


def _wait_for_death(folder: Path, parent_id: int, end_within_seconds: float) -> None:
    waiting = threading.Event()
    while os.getppid() == parent_id:
        waiting.wait(WATCH_SECONDS)
    request_stop(folder)
    give_up_at = time.monotonic() + end_within_seconds
    while running_processes(folder) and time.monotonic() < give_up_at:
        waiting.wait(WATCH_SECONDS)
    # Prefect's runner may wait forever for the server, which ended with `photojobs up`.
    end_within(ORPHAN_SECONDS)


def _watch(folder: Path, parent_id: int, end_within_seconds: float) -> None:
    waiting = threading.Event()
    while not waiting.wait(WATCH_SECONDS):
        if os.getppid() != parent_id or (folder / _STOP_FILE).exists():
            # Prefect turns the signal into an exception in the main thread, and the flow hands back its jobs.
            os.kill(os.getpid(), signal.SIGTERM)
            # Prefect may try for minutes to reach the server, which ended with `photojobs up`.
            waiting.wait(end_within_seconds)
            os.kill(os.getpid(), signal.SIGKILL)


def is_locked(mark: Path) -> bool:
    """Return whether a process that is alive keeps a file locked; False if the file is missing."""
    try:
        with mark.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A zombie process, which its parent has not waited for, accepts signals, too. So the state of the process is read.
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True
