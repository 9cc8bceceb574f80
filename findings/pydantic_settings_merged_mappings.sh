#!/usr/bin/env bash
# A mapping that is given to a class of pydantic-settings does not replace that of the environment or file, not even an empty one.
#
# Guess: of several sources, the first one that has a setting decides: arguments of the call, then the environment, then the file. With
#     a number, a text and a list it is so. `Settings(schedules={})` has no schedules, and `SCHEDULES={}` in the environment
#     switches those of the file off.
# Behaviour: the dictionaries of all sources are merged, at each depth, before anything is validated. An empty mapping changes nothing, and
#     a mapping can add keys or change them, but never remove one. A schedule {"interval": 60} and the file's {"cron": …} become one
#     with both, which the model refuses, or of which it takes one. Nothing is reported. A source that looks at its own
#     `current_state` can leave out what sources before it have given.
# Versions: pydantic-settings 2.16.3, pydantic 2.14.4.
# Date: 2026-11-29.
# Source: pydantic_settings/main.py, BaseSettings._settings_build_values, which calls deep_update for each source.
# Covered by: storage/settings.py, `_not_given_before`; tests/storage/test_settings.py, "a mapping replaces the whole mapping of a later
#     source".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pydantic-settings==2.16.3 pydantic==2.14.4
cd "$folder"
cat > settings.toml <<'TOML'
folders = ["a", "b"]
[schedules.night]
cron = "0 3 * * *"
TOML
"$folder/venv/bin/python" - <<'PYTHON'
import os

from pydantic_settings import BaseSettings, TomlConfigSettingsSource


class Settings(BaseSettings):
    folders: list[str] = []
    schedules: dict[str, dict[str, str]] = {}

    @classmethod
    def settings_customise_sources(cls, settings_cls, init_settings, env_settings, **_):
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, "settings.toml")


FILE = {"night": {"cron": "0 3 * * *"}}
print("file:", Settings().schedules)
empty = Settings(folders=[], schedules={})
print("arguments [] and {}:", empty.folders, empty.schedules)
os.environ["SCHEDULES"] = "{}"
cleared = Settings()
print("environment {}:", cleared.schedules)
os.environ["SCHEDULES"] = '{"night": {"interval": "60"}}'
mixed = Settings()
print("environment with another kind of schedule:", mixed.schedules)
assert empty.folders == []
assert empty.schedules == cleared.schedules == FILE
assert mixed.schedules == {"night": {"cron": "0 3 * * *", "interval": "60"}}
PYTHON
