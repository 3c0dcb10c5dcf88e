#!/usr/bin/env bash
# Evaluates a trained policy on math's test problems and writes runs/eval_math.json and .jsonl:
#
#   bash scripts/eval_math.sh configs/math.py runs/<exp>/<timestamp>/checkpoints
#   bash scripts/eval_math.sh configs/math.py --limit 100    the newest run of that configuration
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/eval_task.sh" math "$@"
