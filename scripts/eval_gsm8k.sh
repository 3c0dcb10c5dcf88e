#!/usr/bin/env bash
# Evaluates a trained policy on gsm8k's test problems and writes runs/eval_gsm8k.json and .jsonl:
#
#   bash scripts/eval_gsm8k.sh configs/gsm8k.py runs/<exp>/<timestamp>/checkpoints
#   bash scripts/eval_gsm8k.sh configs/gsm8k.py --limit 100    the newest run of that configuration
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/eval_task.sh" gsm8k "$@"
