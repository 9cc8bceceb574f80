"""Runs benchmarks: measures the sides in turns, computes a ratio for each round, and prints a table or JSON.

A ratio compares two values of the same round, which are measured within minutes, so that a busy machine slows both
sides. The result is the median of the rounds; the smallest and largest ratio show how reliable it is.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command-line options of a benchmark."""

    small: bool
    as_json: bool
    plot: Path | None = None
    given_rounds: int | None = None

    def rounds(self, full: int) -> int:
        """Return the number of measured rounds: the option `--rounds`, otherwise 1 in a small run, otherwise `full`."""
        return self.given_rounds or self.size(full, 1)

    def size(self, full: int, small: int) -> int:
        """Return `full`, or `small` for a run that only shows that the benchmark works."""
        return small if self.small else full


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The values of photojobs and of another side in each round.

    Attributes:
        what: the measured operation.
        unit: the unit of the values, for example `jobs/s`.
        ours: the values of photojobs, one for each round.
        others: the values of the other side in the same rounds.
        against: the name of the other side.
        target: the bound of the median of ours / other; None if the ratio is only for information.
        at_least: whether the median must reach the bound. Otherwise, it must not exceed the bound.
    """

    what: str
    unit: str
    ours: Sequence[float]
    others: Sequence[float]
    against: str
    target: float | None = None
    at_least: bool = True

    @property
    def ratios(self) -> list[float]:
        return [our / other for our, other in zip(self.ours, self.others, strict=True)]

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def is_met(self) -> bool | None:
        if self.target is None:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target

    @property
    def bound(self) -> str:
        return "" if self.target is None else f"{'>=' if self.at_least else '<='} {self.target:g}"

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "against": self.against,
            "unit": self.unit,
            "ours_median": statistics.median(self.ours),
            "other_median": statistics.median(self.others),
            "ratio_median": self.median,
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "target": self.bound,
            "is_met": self.is_met,
            "rounds": len(self.ratios),
        }


@dataclass(slots=True)
class Report:
    """The ratios of one benchmark."""

    name: str
    notes: list[str] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.name,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
            "notes": self.notes,
            "ratios": [ratio.to_json() for ratio in self.ratios],
        }

    def show(self, options: Options) -> None:
        if options.plot is not None:
            from benchmarks.plot import plot_report

            options.plot.write_text(plot_report(self), encoding="utf-8")
        if options.as_json:
            json.dump(self.to_json(), sys.stdout, indent=2)
            print()
            return
        table = Table(title=self.name, caption="\n".join(self.notes) or None)
        for heading in ("", "against", "ours", "other", "ratio", "min to max", "target", ""):
            table.add_column(heading)
        for ratio in self.ratios:
            table.add_row(
                ratio.what,
                ratio.against,
                f"{statistics.median(ratio.ours):,.4g} {ratio.unit}",
                f"{statistics.median(ratio.others):,.4g} {ratio.unit}",
                f"{ratio.median:.2f}",
                f"{min(ratio.ratios):.2f} to {max(ratio.ratios):.2f}",
                ratio.bound,
                {True: "met", False: "missed", None: ""}[ratio.is_met],
            )
        Console(width=None if sys.stdout.isatty() else 160).print(table)


def in_turns(contestants: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Measure every side once in each round, and return the values of each side, one for each round.

    Each round begins with another side. The first round only warms up and is not counted.
    """
    values: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds + 1):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            value = contestants[name]()
            if number > 0:
                values[name].append(value)
    return values


def peak_mb() -> float:
    """Return the peak memory of this process in MiB, on Linux."""
    # `getrusage` is not used, because its peak may be that of the process which started this one.
    status = Path("/proc/self/status").read_text()
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak) / 1024


def peak_mb_of(module: str, *arguments: object, **environment: str) -> float:
    """Run `module --measure ARGUMENTS`, which prints `peak_mb()`, in a new process; return this number."""
    command_line = [sys.executable, "-m", module, "--measure", *map(str, arguments)]
    return float(subprocess.run(command_line, stdout=subprocess.PIPE, check=True, env=os.environ | environment).stdout)


def command(run: Callable[[Options], Report]) -> None:
    """Run a benchmark as a command, with the options `--json`, `--small`, `--plot` and `--rounds`."""
    parser = argparse.ArgumentParser(description=sys.modules[run.__module__].__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--small", action="store_true", help="a short run that shows only that the benchmark works")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios into an SVG file as well")
    parser.add_argument("--rounds", type=int, help="number of measured rounds, in place of the benchmark's own number")
    arguments = parser.parse_args()
    options = Options(small=arguments.small, as_json=arguments.json, plot=arguments.plot, given_rounds=arguments.rounds)
    run(options).show(options)
