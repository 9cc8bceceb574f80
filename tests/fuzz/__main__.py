"""`python -m tests.fuzz TARGET --minutes N`: searches for inputs of a target that reach new code.

The run fails if an input raises another error than a `PhotojobsError`, takes longer than 10 s, or needs more than
1 GiB. It then prints the file that contains this input. `--corpus FOLDER` keeps the inputs that reach new code.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["task_definitions", "storage", "flows", "yaml", "tomllib", "json"]):
    from task_definitions import PhotojobsError
    from tests.fuzz.targets import TARGETS

HANG_SECONDS = 10
MEMORY_MIB = 1024
MAX_INPUT_BYTES = 4096


def main() -> None:
    """Fuzz a target; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long to search (default 60)")
    parser.add_argument("--corpus", type=Path, help="keep the inputs that reach new code in this folder")
    options = parser.parse_args()
    target = TARGETS[options.target]
    corpus: Path = options.corpus or Path(tempfile.mkdtemp(prefix="pj-corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def read(data: bytes) -> None:
        message = ""
        try:
            target.read(data)
        except PhotojobsError as error:
            message = str(error)
        assert all(line.isprintable() for line in message.split("\n")), repr(message)

    limits = [f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={MAX_INPUT_BYTES}"]
    found = f"-artifact_prefix={tempfile.mkdtemp(prefix='pj-found-')}/"
    duration = f"-max_total_time={options.minutes * 60:.0f}"
    atheris.Setup([sys.argv[0], *limits, found, duration, "-print_final_stats=1", str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
