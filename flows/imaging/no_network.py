"""How a program is started without a network, if the system allows that: by `unshare` of util-linux.

There is no well-kept Python library for it, and `os.unshare` is new in Python 3.12.
"""

import functools
import os
import shutil
import subprocess
import sys


@functools.cache
def command_without_network() -> tuple[str, ...]:
    """What goes before a command so that it has no network; empty where the system does not allow it.

    The program keeps its process id, its user and its groups.
    """
    unshare = shutil.which("unshare") if sys.platform == "linux" else None
    if unshare is None:
        return ()
    # Root would lose the right to read the files of others in a namespace of users; others need one.
    options = ("--net",) if os.geteuid() == 0 else ("--user", "--map-current-user", "--net")
    command = (unshare, *options, "--")
    try:
        done = subprocess.run((*command, "true"), check=False, capture_output=True, timeout=10)  # noqa: S603 - ours.
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if done.returncode == 0 else ()
