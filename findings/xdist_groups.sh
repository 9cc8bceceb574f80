#!/usr/bin/env bash
# pytest-xdist 3.8 silently spreads the tests of one xdist_group over all workers with pytest 9.2.
#
# Guess: `--dist=loadgroup` keeps the tests of a group in one worker with each pytest that pip installs beside it; if it
#   could not, it would fail. pytest-xdist has no upper limit for pytest.
# Behaviour: with pytest 9.1 a group has one worker. With pytest 9.2 it is spread; all tests pass, without a warning.
# Versions: pytest 9.1.1 and 9.2.0, pytest-xdist 3.8.0
# Date: 2026-11-28
# Source: xdist/remote.py, pytest_collection_modifyitems: it writes the group into `item._nodeid`
# Covered by: tests/test_groups.py; the range of pytest in pyproject.toml
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/tests"
cat > "$work/tests/test_group.py" <<'TEST'
import os

import pytest


@pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(8))
def test_of_a_group(number):
    print("ran in", os.environ["PYTEST_XDIST_WORKER"])
TEST

workers_with() {
    python3 -m venv "$work/$1"
    "$work/$1/bin/pip" install -q "pytest==$1" pytest-xdist==3.8.0 2>/dev/null
    "$work/$1/bin/python" -m pytest -q -n2 --dist=loadgroup -rP -p no:cacheprovider "$work/tests" |
        sed -n 's/^ran in //p' | sort -u | wc -l
}

before=$(workers_with 9.1.1)
after=$(workers_with 9.2.0)
echo "workers that ran one group: $before with pytest 9.1.1, $after with pytest 9.2.0"
[ "$before" -eq 1 ] && [ "$after" -eq 2 ]
