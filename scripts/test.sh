#!/usr/bin/env bash
# Makes .venv if needed, checks style and types, runs the tests. Arguments go to pytest:
#
#   bash scripts/test.sh            everything
#   bash scripts/test.sh --fast     minutes less: nothing slow, no processes, no browser
#   bash scripts/test.sh -k config
#
# Two processes share the files; those with slow tests begin first (tests/conftest.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# A third of the time of collecting goes into rewriting assertions, unless the result may be kept.
unset PYTHONDONTWRITEBYTECODE

bash scripts/setup.sh
echo "test: ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "test: mypy"
.venv/bin/mypy
echo "test: pytest"
exec .venv/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
