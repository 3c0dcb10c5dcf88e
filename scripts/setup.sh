#!/usr/bin/env bash
# Makes .venv with this project and everything it needs; a second run reuses it.
#
#   bash scripts/setup.sh          CPU
#   bash scripts/setup.sh cuda     NVIDIA GPU (CUDA 12 wheels of jax)
#
# PYTHON chooses the interpreter (default python3; 3.11 or newer).
set -euo pipefail

usage() {
    echo "usage: bash scripts/setup.sh [cuda]" >&2
    exit 2
}

[[ $# -le 1 ]] || usage
case "${1:-}" in
    "") extras="convert,dev" ;;
    cuda) extras="convert,dev,cuda" ;;
    *) usage ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"

if [[ ! -x .venv/bin/python ]]; then
    if ! command -v "$python" >/dev/null; then
        echo "error: no interpreter '$python'; set PYTHON to a Python 3.11 or newer" >&2
        exit 2
    fi
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: $python is $("$python" --version 2>&1); expected Python 3.11 or newer" \
            "(set PYTHON to one)" >&2
        exit 2
    fi
    echo "setup: making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi

# The stamp is written last: an interrupted installation is taken up again.
stamp=".venv/installed-${extras//,/-}"
wanted="$(cat pyproject.toml constraints.txt | .venv/bin/python -c \
    'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]]; then
    echo "setup: .venv is up to date"
    exit 0
fi

packages="$(grep -c '==' constraints.txt)"
echo "setup: installing reoac-jax[$extras] and up to $packages packages into .venv" \
    "(minutes the first time)"
.venv/bin/pip install --quiet --disable-pip-version-check \
    -c constraints.txt -e ".[$extras]"
echo "$wanted" >"$stamp"
echo "setup: done"
