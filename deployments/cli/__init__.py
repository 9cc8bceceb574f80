"""The `photojobs` command; its commands are thin and call functions that programs can call too.

`main` imports a command only if the command line names it, so that `photojobs --help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command line of this process, and exit with its exit code."""
    _use_standard_streams()
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - the method of Path raises an error here.
        # Prefect cannot be imported if the user has no home folder. Container runtimes, too, then set HOME to /.
        os.environ["HOME"] = "/"
    from deployments.cli.command_line import run_command_line
    from deployments.server.telemetry_off import switch_telemetry_off
    from deployments.server.without_proxy import direct_environment

    switch_telemetry_off()
    os.environ.update(direct_environment())
    sys.exit(run_command_line(sys.argv[1:]))


def _use_standard_streams() -> None:
    """Open closed standard streams on the null device, and let stdout escape characters that its encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Otherwise the next file that is opened would get the descriptor of the closed stream, and output of this
            # process or of its children would be written to that file.
            stream = open(os.devnull, mode)  # noqa: PTH123, SIM115 - it stays open, like every standard stream.
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
