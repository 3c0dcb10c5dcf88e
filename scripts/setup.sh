#!/usr/bin/env bash
# Makes .venv with this project and everything it needs; a second run reuses it.
#
#   bash scripts/setup.sh          CPU
#   bash scripts/setup.sh cuda     NVIDIA GPU: cuda12 or cuda13, the wheels of jax by their CUDA;
#                                  cuda is cuda12
#
# PYTHON chooses the interpreter (default python3; 3.11 or newer), CONSTRAINTS the file with the
# exact versions (default constraints.txt).
set -euo pipefail

usage() {
    echo "usage: bash scripts/setup.sh [cuda | cuda12 | cuda13]" >&2
    exit 2
}

[[ $# -le 1 ]] || usage
case "${1:-}" in
    "") extras="convert,dev" ;;
    cuda | cuda12) extras="convert,dev,cuda12" ;;
    cuda13) extras="convert,dev,cuda13" ;;
    *) usage ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
constraints="${CONSTRAINTS:-constraints.txt}"
if [[ ! -f "$constraints" ]]; then
    echo "error: CONSTRAINTS is $constraints; expected a file with versions, as constraints.txt" >&2
    exit 2
fi

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
wanted="$(cat pyproject.toml "$constraints" | .venv/bin/python -c \
    'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]]; then
    echo "setup: .venv is up to date"
    exit 0
fi

packages="$(grep -c '==' "$constraints")"
echo "setup: installing reoac-jax[$extras] and up to $packages packages into .venv" \
    "(minutes the first time)"
.venv/bin/pip install --quiet --disable-pip-version-check \
    -c "$constraints" -e ".[$extras]"
echo "$wanted" >"$stamp"
echo "setup: done"
