"""The `photojobs` command: thin commands over functions that a program can call just as well.

`main` imports no command before it is named on the command line, so that `photojobs --help` answers at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    from deployments.cli.command_line import run_command_line
    from deployments.server.telemetry_off import switch_telemetry_off

    switch_telemetry_off()
    sys.exit(run_command_line(sys.argv[1:]))
