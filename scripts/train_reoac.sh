#!/usr/bin/env bash
# Trains REOAC from a configuration; overrides go to python -m reoac_jax.train:
#
#   bash scripts/train_reoac.sh configs/gsm8k.py lora --config.train.iterations=10
set -euo pipefail

usage() {
    echo "usage: bash scripts/train_reoac.sh CONFIG lora|full|frozen [--config.KEY=VALUE ...]" >&2
    exit 2
}

[[ $# -ge 2 ]] || usage
config="$1" mode="$2"
shift 2
case "$mode" in
    lora | full | frozen) ;;
    *) usage ;;
esac

# The path is the caller's, the environment the project's.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3

exec "$python" -m reoac_jax.train \
    --config "$config" "--config.backbone.finetune_mode=$mode" "$@"
