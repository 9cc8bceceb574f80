"""The `photojobs` command; its commands are thin and call functions that programs can call too.

`main` imports a command only if the command line names it, so that `photojobs --help` answers at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process, and exit with its exit code."""
    import os

    from deployments.cli.command_line import run_command_line
    from deployments.server.telemetry_off import switch_telemetry_off
    from deployments.server.without_proxy import direct_environment

    switch_telemetry_off()
    os.environ.update(direct_environment())
    sys.exit(run_command_line(sys.argv[1:]))
