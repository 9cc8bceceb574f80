#!/usr/bin/env bash
# pytest 9.1 loses the fixtures of a conftest.py if a file of an outer folder is between two paths of its folder.
#
# Guess: the order of the paths on the command line decides the order of the tests, and nothing else.
# Behaviour: since pytest 9.1, fixtures of a conftest.py belong to the node of its folder. A path in an outer folder makes
#     a new node for that folder, and so does the next path in the inner one, which has no fixtures: "fixture not found".
#     An autouse fixture is left out without an error. With pytest 9.0, and with sorted paths, all tests pass.
# Versions: pytest 9.1.1, and 9.0.2 for comparison.
# Date: 2026-11-28.
# Source: https://github.com/pytest-dev/pytest/issues/14635 and /issues/14964
# Covered by: `pytest_configure` in tests/conftest.py, which sorts the paths.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/tests/inner"
cat > "$folder/tests/inner/conftest.py" <<'PYTHON'
import pytest


@pytest.fixture
def answer():
    return 42
PYTHON
for name in a b; do
    echo "def test_$name(answer): assert answer == 42" > "$folder/tests/inner/test_$name.py"
done
echo "def test_outer(): pass" > "$folder/tests/test_outer.py"
cd "$folder"

run() {
    python="$folder/$1/bin/python"
    [ -d "$folder/$1" ] || { python3 -m venv "$folder/$1"; "$python" -m pip install -q "pytest==$1" 2> /dev/null; }
    shift
    { "$python" -m pytest -q -p no:cacheprovider --import-mode=importlib "$@" 2>&1 || true; } | tail -n 1
}

mixed=(tests/inner/test_a.py tests/test_outer.py tests/inner/test_b.py)
sorted=(tests/inner/test_a.py tests/inner/test_b.py tests/test_outer.py)
new_mixed=$(run 9.1.1 "${mixed[@]}")
new_sorted=$(run 9.1.1 "${sorted[@]}")
old_mixed=$(run 9.0.2 "${mixed[@]}")
echo "pytest 9.1.1, an outer file between: $new_mixed"
echo "pytest 9.1.1, sorted: $new_sorted"
echo "pytest 9.0.2, an outer file between: $old_mixed"
[[ $new_mixed == *"2 passed, 1 error"* && $new_sorted == "3 passed"* && $old_mixed == "3 passed"* ]]
