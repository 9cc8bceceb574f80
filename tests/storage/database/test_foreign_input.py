"""Any input of people and other programs is accepted, or refused by a `PhotojobsError`.

These tests use settings, manifests, payloads and names; other tests use definitions and image metadata. The long form:
`HYPOTHESIS_PROFILE=full python -m pytest -m hypothesis --timeout 0`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import InvalidValue
from storage.library.errors import ManifestUnreadable
from storage.library.manifest import Manifest, read_manifest
from storage.library.naming.companions import CompanionNames, owner_keys
from storage.library.paths import Library
from storage.lifecycle.job_rows import checked_payload
from storage.settings import InvalidSettings, Settings

#: Each example overwrites the same file, so a fixture for each test function is sufficient.
over_and_over = settings(
    max_examples=5 * settings().max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
YAML_TEXTS = st.text("[]{}&*!<>|:?-,#%@'\" \nabn01.~=\x00é", max_size=60).map(str.encode)
MANIFESTS = st.fixed_dictionaries(
    {}, optional={"name": VALUES, "id": VALUES, "created_at": VALUES, "version": VALUES, "more": VALUES}
).map(lambda mapping: json.dumps(mapping, default=str).encode())


@over_and_over
@given(content=st.binary(max_size=80) | YAML_TEXTS | MANIFESTS)
def test_a_manifest_is_read_or_named_as_unreadable(content: bytes, tmp_path: Path) -> None:
    project = Library(tmp_path).project("tenant", "Iceland")
    project.path.mkdir(parents=True, exist_ok=True)
    project.manifest_path.write_bytes(content)
    try:
        read = read_manifest(project)
    except ManifestUnreadable as error:
        message = str(error)
    else:
        assert isinstance(read, Manifest)
        assert read.id > 0
        return
    assert str(project.manifest_path) in message


_LINES = st.tuples(
    st.sampled_from(sorted(Settings.model_fields)), VALUES.map(lambda value: json.dumps(value, default=str))
).map(" = ".join)


@over_and_over
@given(content=st.binary(max_size=60) | st.lists(_LINES, max_size=3).map("\n".join).map(str.encode))
def test_a_settings_file_is_taken_or_refused_by_its_name(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "photojobs.toml"
    file.write_bytes(content)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PHOTOJOBS_CONFIG", str(file))
        try:
            Settings.load()
        except InvalidSettings as error:
            message = str(error)
        else:
            return
    assert message.startswith(str(file)) or any(name in message for name in Settings.model_fields), message


@over_and_over
@given(payload=st.dictionaries(st.text(max_size=6), VALUES, max_size=4) | VALUES)
def test_a_payload_is_kept_as_it_is_or_refused(payload: Any) -> None:
    try:
        kept = checked_payload(payload)
    except InvalidValue:
        return
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept == payload


NAMES = st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1, max_size=60)


@over_and_over
@given(name=NAMES, old=NAMES, new=NAMES)
def test_the_file_of_any_name_can_follow_its_photo(name: str, old: str, new: str) -> None:
    for fit in CompanionNames({"jpg", "heic"}).fits(name):
        assert fit.key
        assert new in fit.renamed(new, old=old) or new == old


@over_and_over
@given(
    base_name=NAMES.filter(lambda name: "." not in name and "(" not in name), extension=st.sampled_from(["jpg", "heic"])
)
def test_a_photo_finds_the_json_file_that_takeout_cut(base_name: str, extension: str) -> None:
    cut = f"{base_name}.{extension}"[:46]

    keys = {fit.key for fit in CompanionNames({"jpg", "heic"}).fits(f"{cut}.json")}

    assert keys & set(owner_keys(base_name)), cut
