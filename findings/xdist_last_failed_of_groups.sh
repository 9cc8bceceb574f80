#!/usr/bin/env bash
# After a run with `--dist=loadgroup`, `pytest --lf` leaves out failed tests of groups, and passes.
#
# Guess: `--lf` runs again what failed last, also if pytest-xdist ran it. When that passes, the failures are fixed. It works so in
#     a project without groups, and with groups as long as only tests of groups fail in a file.
# Behaviour: pytest-xdist appends the group to the id of a test, and so the failure is recorded as `test_a.py::test_x@group`.
#     `--lf` looks for ids without groups when it collects a file. If another test of the file has failed, too, those of groups
#     are not collected, with workers and without: one test runs, passes, and the run is a success. No warning says that other
#     failures are left.
# Versions: pytest 9.1.1, pytest-xdist 3.8.0.
# Date: 2026-11-29.
# Source: xdist/remote.py, pytest_collection_modifyitems; _pytest/cacheprovider.py, LFPluginCollWrapper;
#     https://github.com/pytest-dev/pytest/issues/11299, which was closed.
# Covered by: `pytest_configure` in tests/conftest.py, which refuses `--lf`; tests/test_groups.py.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pytest==9.1.1 pytest-xdist==3.8.0
mkdir "$work/tests"
cat > "$work/tests/test_jobs.py" <<'TEST'
import os

import pytest


def test_alone():
    assert "ALONE_IS_FIXED" in os.environ


@pytest.mark.xdist_group("server")
def test_of_a_group():
    raise AssertionError("not fixed")
TEST
touch "$work/tests/pytest.ini"
cd "$work/tests"

run() {
    "$work/venv/bin/python" -m pytest -q --dist=loadgroup "$@" > "$work/output" 2>&1 || true
    tail -1 "$work/output"
}

echo "all tests, with workers: $(run -n1)"
for workers in 0 1; do
    cp -r .pytest_cache "$work/cache"
    left=$(ALONE_IS_FIXED=1 run -n$workers --lf)
    echo "--lf -n$workers, one of the two fixed: $left"
    [[ $left == "1 passed"* ]]
    rm -r .pytest_cache
    mv "$work/cache" .pytest_cache
done
grep -o 'test_jobs.*true' .pytest_cache/v/cache/lastfailed | grep -q 'test_of_a_group@server'
