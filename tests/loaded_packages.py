"""Finds out which packages a program loads, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def loaded_by(program: str, *packages: str) -> list[str]:
    """Run a program in a new process, and return which of these packages it has loaded at its end."""
    report = f"import json, sys; print(json.dumps([name for name in {packages!r} if name in sys.modules]))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded: list[str] = json.loads(ran.stdout.splitlines()[-1])
    return loaded
