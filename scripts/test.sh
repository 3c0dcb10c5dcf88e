#!/usr/bin/env bash
# Makes .venv if needed, checks style and types, runs the tests. Arguments go to pytest:
#
#   bash scripts/test.sh -k config
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
echo "test: ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "test: mypy"
.venv/bin/mypy
echo "test: pytest"
exec .venv/bin/python -m pytest -q -n 2 --dist loadfile "$@"
