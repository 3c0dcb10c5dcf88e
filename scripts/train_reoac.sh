#!/usr/bin/env bash
# Trains REOAC from a configuration; overrides go to python -m reoac_jax.train:
#
#   bash scripts/train_reoac.sh configs/gsm8k.py lora --config.train.iterations=10
#   bash scripts/train_reoac.sh --resume runs/gsm8k/<timestamp>
set -euo pipefail

usage() {
    echo "usage: bash scripts/train_reoac.sh CONFIG lora|full|frozen [--config.KEY=VALUE ...]," \
        "or --resume RUN_DIR" >&2
    exit 2
}

[[ $# -ge 2 ]] || usage
if [[ "$1" == --resume ]]; then
    what=(--resume "$2")
else
    case "$2" in
        lora | full | frozen) ;;
        *) usage ;;
    esac
    what=(--config "$1" "--config.backbone.finetune_mode=$2")
fi
shift 2

# The path is the caller's, the environment the project's.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3

exec "$python" -m reoac_jax.train "${what[@]}" "$@"
