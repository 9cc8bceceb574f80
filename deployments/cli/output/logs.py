"""Sets up which log lines of photojobs and of libraries a command shows: errors and waits, with `--verbose` all lines.

The logs of runs are still sent to Prefect's server, and failures are in the tables. For processes with the setting
`log_format = "json"`, `flows.telemetry.log_lines` decides.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings


class _TerminalHandler(logging.Handler):
    """Writes to the current `sys.stderr`, which a progress bar may replace."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"photojobs: {self.format(record)}\n")
        except Exception:  # noqa: BLE001 - every logging handler reports its own errors this way.
            self.handleError(record)


class _OneLine(logging.Formatter):
    """Formats a log record as its message, without a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(record.getMessage().split())


def set_up_logs(*, is_verbose: bool) -> None:
    """Set up logging; call this before Prefect is imported. Environment variables for Prefect's logs stay in force."""
    handler = _TerminalHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s") if is_verbose else _OneLine())
    ours = logging.getLogger("photojobs")
    ours.handlers = [handler]
    ours.propagate = False
    # Warnings are not shown: they are about single photos and projects, and the results of commands show those.
    ours.setLevel(logging.INFO if is_verbose else logging.ERROR)
    # Messages about waits are always shown. Without them, a user could not tell a run that waits from one that hangs.
    logging.getLogger("photojobs.waiting").setLevel(logging.INFO if is_verbose else logging.WARNING)
    of_libraries = _TerminalHandler(logging.NOTSET if is_verbose else logging.ERROR)
    of_libraries.setFormatter(handler.formatter)
    logging.lastResort = of_libraries
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO" if is_verbose else "CRITICAL")
    if not is_verbose and not sys.warnoptions:
        warnings.simplefilter("ignore")
