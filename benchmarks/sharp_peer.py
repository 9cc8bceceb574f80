"""Runs sharp, the Node library of many photo servers, for comparison: two files at a time, each decoded once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows.imaging.limits import Rendition

_PROGRAM = Path(__file__).with_name("sharp_peer.cjs")


def why_missing() -> str | None:
    """Return the reason why sharp cannot be measured here, or None if it can."""
    node = shutil.which("node")
    if node is None:
        return "Node is missing. Install it with `apt-get install nodejs npm`."
    done = subprocess.run([node, "-e", "require('sharp')"], check=False, capture_output=True)
    if done.returncode != 0:
        return "sharp is missing. Run `npm install --no-save sharp` in this folder, or set NODE_PATH to its folder."
    return None


class Sharp:
    """A running Node process with sharp."""

    def __init__(self) -> None:
        # Node also searches the working folder for modules.
        paths = [str(Path("node_modules").absolute()), os.environ.get("NODE_PATH", "")]
        self._node = subprocess.Popen(
            ["node", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"NODE_PATH": os.pathsep.join(paths)},
        )
        self.versions: dict[str, str] = self._answer()

    def make(self, jobs: Iterable[tuple[Path, dict[Path, Rendition]]]) -> tuple[float, float]:
        """Make the renditions of each picture, and return the wall time and the processor time in seconds."""
        asked = [
            {
                "source": str(source),
                "renditions": [
                    {
                        "target": str(target),
                        "size": rendition.long_edge_pixels,
                        "quality": rendition.quality,
                        "effort": rendition.effort,
                    }
                    for target, rendition in renditions.items()
                ],
            }
            for source, renditions in jobs
        ]
        assert self._node.stdin is not None
        self._node.stdin.write(json.dumps(asked) + "\n")
        self._node.stdin.flush()
        wall, processor = self._answer()
        return wall, processor

    def close(self) -> None:
        """End the process."""
        assert self._node.stdin is not None
        self._node.stdin.close()
        self._node.wait()

    def _answer(self) -> Any:
        assert self._node.stdout is not None
        return json.loads(self._node.stdout.readline())
