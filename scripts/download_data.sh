#!/usr/bin/env bash
# Writes the problems of a task where its configuration expects them.
#
#   bash scripts/download_data.sh gsm8k configs/gsm8k.py all
#   bash scripts/download_data.sh math  configs/math.py  test --source DIR
#
# The last word is train, test or all. The problems come from the Hugging Face hub, or with
# --source from a folder that holds train.jsonl and test.jsonl as published.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ "$#" -lt 3 ]; then
  echo "usage: bash scripts/download_data.sh gsm8k|math CONFIG train|test|all [--source DIR]" >&2
  exit 2
fi
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m reoac_jax.tasks.prepare "$@"
