"""Validate compose.yaml against the Compose specification, without a Docker daemon."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from compose_spec import PyCompose

text = Path("compose.yaml").read_text(encoding="utf-8")
# Compose replaces variables before it reads the file. Here they get their default, or a word if they have none.
filled = re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", lambda found: found.group(1) or "word", text)
services = PyCompose.from_json(json.dumps(yaml.safe_load(filled))).to_spec().services
print(f"compose.yaml: {len(services)} services, valid according to the specification")  # noqa: T201
