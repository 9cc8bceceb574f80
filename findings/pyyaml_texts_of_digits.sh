#!/usr/bin/env bash
# PyYAML writes the texts of the months 08 and 09 without quotes, and those of the others with them; other libraries read 8 and 9.
#
# Guess: `yaml.safe_dump` quotes each text that would be read as something else, and what it writes is YAML for all readers. At
#     least it treats `07` and `08` alike.
# Behaviour: PyYAML quotes what would be a number by its own rules, those of YAML 1.1 with omissions: `07` is octal there, `08` is
#     no number, and neither is `12e45`, for it wants a dot and a sign. By YAML 1.2, which ruamel.yaml and libraries of other
#     languages follow, they are 8 and 1.2e+46. So a folder, or a hash whose one letter is an e, is another one for another
#     program, while PyYAML reads its own file well. The other way around, ruamel.yaml writes the texts `on` and `12:30` without
#     quotes, which PyYAML reads as True and 750.
# Versions: PyYAML 6.0.4, ruamel.yaml 0.19.1.
# Date: 2026-11-29.
# Source: yaml/resolver.py, the implicit resolvers of int and float; YAML 1.2.2, section 10.3.2, "Core Schema";
#     https://github.com/yaml/pyyaml/issues/173.
# Covered by: storage/library/manifest.py, `_Dumper`, which quotes for both; tests/storage/library/test_library_manifest.py, "a name
#     of digits is a text for readers of each version of YAML".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q PyYAML==6.0.4 ruamel.yaml==0.19.1
"$folder/venv/bin/python" - <<'PYTHON'
import io

import yaml
from ruamel.yaml import YAML

other = YAML(typ="safe", pure=True)


def written_by_ruamel(document):
    stream = io.StringIO()
    other.dump(document, stream)
    return stream.getvalue()


changed = {}
for text in [*(f"{month:02}" for month in range(1, 13)), "12e45", "1e3", "0o17", "ab12"]:
    written = yaml.safe_dump({"folder": text})
    assert yaml.safe_load(written) == {"folder": text}
    read = other.load(written)["folder"]
    if read != text:
        changed[text] = read
        print(f"the text {text!r}, written by PyYAML as {written.strip()!r}, is {read!r} for ruamel.yaml")
assert changed == {"08": 8, "09": 9, "12e45": 1.2e46, "1e3": 1000.0, "0o17": 15}, changed

for text, expected in (("on", True), ("12:30", 750)):
    written = written_by_ruamel({"folder": text})
    assert other.load(written) == {"folder": text}
    read = yaml.safe_load(written)["folder"]
    print(f"the text {text!r}, written by ruamel.yaml as {written.strip()!r}, is {read!r} for PyYAML")
    assert read == expected
PYTHON
