#!/usr/bin/env bash
# With `-n0` and any `--dist`, pytest-cov counts lines as always, and `--cov-context=test` records no test, without a word.
#
# Guess: `-n0` runs the tests in the process of pytest, as without xdist. So `--cov-context=test` records for each line which
#     tests ran it, whatever `--dist` the configuration of the project has for its parallel runs.
# Behaviour: pytest-cov takes every `--dist` but `no` as a sign of workers, also with `-n0`, and becomes the master of workers
#     that never start. The lines are counted, but contexts are switched by workers alone: all lines have the empty context.
#     A program that asks which tests run a line then finds none, or takes the empty context as "outside all tests". With
#     `--dist=no` beside `-n0` the tests are recorded.
# Versions: pytest 9.1.1, pytest-cov 7.1.0, pytest-xdist 3.8.0, coverage 7.17.5
# Date: 2026-11-28
# Source: pytest_cov/plugin.py, CovPlugin.__init__ (`is_dist`) and TestContextPlugin.switch_context; pytest_cov/engine.py, where
#     `DistMaster.start` does not set `started`.
# Covered by: tests/mutation/trials.py, `_OPTIONS` and `Trials.measure`, which ends if no test was recorded
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pytest==9.1.1 pytest-cov==7.1.0 pytest-xdist==3.8.0 coverage==7.17.5 2>/dev/null
cd "$work"
printf 'def double(number):\n    return 2 * number\n' > doubling.py
printf 'from doubling import double\n\n\ndef test_two():\n    assert double(2) == 4\n' > test_doubling.py
cat > contexts.py <<'PYTHON'
from coverage import CoverageData

data = CoverageData(".coverage")
data.read()
[path] = data.measured_files()
assert data.lines(path) == [1, 2], data.lines(path)
print(sorted(data.contexts_by_lineno(path)[2]))
PYTHON

contexts() { # contexts OPTION...: prints the contexts of the line in `double`
    rm -f .coverage
    "$work/venv/bin/python" -m pytest -q -p no:cacheprovider "$@" --cov=doubling --cov-context=test --cov-report= > log 2>&1 \
        || { cat log; exit 1; }
    "$work/venv/bin/python" contexts.py
}

for options in "-n0" "-n0 --dist=no" "-n1 --dist=loadgroup" "-n0 --dist=load" "-n0 --dist=loadgroup"; do
    # shellcheck disable=SC2086
    found=$(contexts $options)
    echo "pytest $options: the line was run by $found"
    case $options in
        "-n0 --dist=load"*) [ "$found" = "['']" ] ;;
        *) [ "$found" = "['test_doubling.py::test_two|run']" ] ;;
    esac
done
