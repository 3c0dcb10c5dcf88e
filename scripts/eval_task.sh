#!/usr/bin/env bash
# Evaluates a policy; called by eval_gsm8k.sh and eval_math.sh. Writes runs/eval_TASK.json and .jsonl.
set -euo pipefail

usage() {
    echo "usage: bash scripts/eval_$task.sh CONFIG [CHECKPOINTS] [options of evaluate]" >&2
    exit 2
}

task="$1"
shift
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
    --config "$config" ${checkpoint[@]+"${checkpoint[@]}"} --output "runs/eval_$task.json" "$@"
