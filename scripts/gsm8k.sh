#!/usr/bin/env bash
# GSM8K in one command: data, weights, fine-tuning, samplers, both trainings, evaluation, report,
# model, and a table beside the published numbers. The same command goes on with what was killed.
#
#   bash scripts/gsm8k.sh --size owt --dry-run           what it would do, and what that costs
#   bash scripts/gsm8k.sh --size owt [--data hub|DIR] [--work DIR]
#   bash scripts/gsm8k.sh --size small                   some rows, in minutes on a CPU
#
# scripts/gsm8k_run.py says the rest. PYTHON chooses the interpreter (default .venv/bin/python, else
# python3).
set -euo pipefail
here="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${PYTHON:-}"
if [[ -z "$python" ]]; then
    python="$PWD/.venv/bin/python"
    [[ -x "$python" ]] || python=python3
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
root="$PWD"
cd "$here"
exec "$python" -u "$root/scripts/gsm8k_run.py" "$@"
