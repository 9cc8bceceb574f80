"""Flow-run processes under `photojobs up`: they are known to it, outlive it by a moment only, and stop when it says so.

`up` puts the name of its folder into the environment of what it starts. A flow-run process makes a file there that has
its process id as name, keeps it locked while it lives, and watches two things: whether its parent is still there, and
whether `up` wants to stop.
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

#: Set by `photojobs up` for the processes that it starts.
FOLDER_VARIABLE = "PHOTOJOBS_UP_FOLDER"

#: How often a flow-run process looks.
WATCH_SECONDS = 0.5

#: How long a runner whose `photojobs up` has died may take to end after its flow runs.
ORPHAN_SECONDS = 5.0

_STOP_FILE = "stop"
_started = threading.Lock()
_watching: list[threading.Thread] = []
_marks: list[IO[bytes]] = []


def watch_supervisor(*, end_within_seconds: float) -> None:
    """Begin to watch, once for this process, if `photojobs up` started it; elsewhere do nothing.

    Args:
        end_within_seconds: from the wish to stop; a process that is there longer is killed, and its jobs are rescued.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return
    with _started:
        if _watching:
            return
        register(Path(folder), os.getpid())
        atexit.register(unregister, Path(folder), os.getpid())
        thread = threading.Thread(
            target=_watch,
            args=(Path(folder), os.getppid(), end_within_seconds),
            name="photojobs-supervision",
            daemon=True,
        )
        _watching.append(thread)
        thread.start()


def stop_runs_when_orphaned(*, end_within_seconds: float) -> None:
    """In the process that starts flow runs: have them stop when the `photojobs up` dies that started it, and end.

    Their own parent is still there then, as it waits for them.

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
    """Kill this process if it is still there after so long; for one that was told to end and hands back its jobs.

    A second signal may interrupt Prefect while it ends its threads, and it would wait for them for minutes.
    """

    def kill() -> None:
        threading.Event().wait(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, name="photojobs-end", daemon=True).start()


def register(folder: Path, process_id: int) -> None:
    """Make this flow-run process known to `photojobs up`, until it ends."""
    make_private_folder(folder)
    mark = open_private(folder / f"{process_id}.run")
    # The proof that the process is this one: after a crash, something else may have its id.
    fcntl.flock(mark, fcntl.LOCK_EX)
    _marks.append(mark)


def unregister(folder: Path, process_id: int) -> None:
    """Say that a flow-run process ends."""
    (folder / f"{process_id}.run").unlink(missing_ok=True)


def request_stop(folder: Path) -> None:
    """Ask all flow-run processes of the folder to hand back what they run, and to end."""
    make_private_folder(folder)
    create_private(folder / _STOP_FILE)


def withdraw_stop(folder: Path) -> None:
    """Let flow-run processes run again."""
    (folder / _STOP_FILE).unlink(missing_ok=True)


def running_processes(folder: Path) -> list[int]:
    """The ids of the known flow-run processes that are alive; what is left of dead ones is cleared away."""
    alive = []
    for entry in folder.glob("*.run"):
        process_id = int(entry.stem)
        if _is_locked(entry) and _is_alive(process_id):
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
    # Prefect's runner may wait without end for the server that has died with `photojobs up`.
    end_within(ORPHAN_SECONDS)


def _watch(folder: Path, parent_id: int, end_within_seconds: float) -> None:
    waiting = threading.Event()
    while not waiting.wait(WATCH_SECONDS):
        if os.getppid() != parent_id or (folder / _STOP_FILE).exists():
            # To ourselves: Prefect turns it into an exception in the main thread, and our flow hands back its jobs.
            os.kill(os.getpid(), signal.SIGTERM)
            # Prefect would go on for minutes telling a server that has died with `photojobs up`.
            waiting.wait(end_within_seconds)
            os.kill(os.getpid(), signal.SIGKILL)


def _is_locked(mark: Path) -> bool:
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
    # A process that has ended but was not waited for answers signals too.
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True
