"""Findings have the form that findings/README.md describes. `findings/run` checks that the behavior is unchanged."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from docs_site.pages import ROOT

FIELDS = ("Guess", "Behaviour", "Versions", "Date", "Source", "Covered by")


@pytest.mark.parametrize("script", sorted((ROOT / "findings").glob("*.sh")), ids=lambda script: script.stem)
def test_a_finding_says_what_was_guessed_and_what_is(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    header, found, _ = text.partition("\nset -euo pipefail\n")

    assert header.startswith("#!/usr/bin/env bash\n# ")
    assert found, "no line `set -euo pipefail` behind the header"
    assert [field for field in FIELDS if not re.search(rf"^# {field}: \S", header, re.MULTILINE)] == []
    named = re.findall(r"[\w./-]+/[\w-]+\.(?:py|md|yaml)\b", header.partition("\n# Covered by: ")[2])
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert os.access(script, os.X_OK), "not executable"
    subprocess.run(["bash", "-n", script], check=True)
