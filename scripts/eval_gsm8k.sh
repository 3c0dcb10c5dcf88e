#!/usr/bin/env bash
# Evaluates a run on the test split and writes runs/eval_gsm8k.json. Without CHECKPOINTS the newest run
# of that config is taken. Further arguments go to python -m reoac_jax.evaluate:
#
#   bash scripts/eval_gsm8k.sh configs/gsm8k.py runs/gsm8k/<timestamp>/checkpoints --limit 100
set -euo pipefail

usage() {
    echo "usage: bash scripts/eval_gsm8k.sh CONFIG [CHECKPOINTS] [options of evaluate]" >&2
    exit 2
}

[[ $# -ge 1 && "$1" != -* ]] || usage
config="$1"
shift
checkpoint=()
if [[ $# -ge 1 && "$1" != -* ]]; then
    checkpoint=(--checkpoint "$1")
    shift
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3

exec "$python" -m reoac_jax.evaluate \
    --config "$config" ${checkpoint[@]+"${checkpoint[@]}"} --output runs/eval_gsm8k.json "$@"
