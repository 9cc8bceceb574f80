"""Starts programs without network access, with `unshare` of util-linux, if the system allows this.

No maintained Python library offers this, and `os.unshare` needs Python 3.12.
"""

import functools
import os
import shutil
import subprocess
import sys


@functools.cache
def command_without_network() -> tuple[str, ...]:
    """Return the prefix that makes a command run without network access; empty if the system does not allow this.

    The program keeps its process id, its user and its groups.
    """
    unshare = shutil.which("unshare") if sys.platform == "linux" else None
    if unshare is None:
        return ()
    # Users other than root need a user namespace. For root, a user namespace would hide the files of other users.
    options = ("--net",) if os.geteuid() == 0 else ("--user", "--map-current-user", "--net")
    command = (unshare, *options, "--")
    try:
        done = subprocess.run((*command, "true"), check=False, capture_output=True, timeout=10)  # noqa: S603 - ours.
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if done.returncode == 0 else ()
