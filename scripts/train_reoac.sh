#!/usr/bin/env bash
# Trains REOAC from a configuration, or goes on with a run; overrides go to python -m reoac_jax.train:
#
#   bash scripts/train_reoac.sh configs/gsm8k.py lora --config.train.iterations=10
#   bash scripts/train_reoac.sh --resume runs/gsm8k/<timestamp>
#
# Several processes make one run where the environment tells each of them
#   REOAC_COORDINATOR  HOST:PORT of process 0
#   REOAC_PROCESSES    how many there are
#   REOAC_INDEX        which one this is, from 0
# Under SLURM nothing of that is needed: see scripts/slurm_train.sbatch.
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

if [[ -n "${REOAC_COORDINATOR:-}" ]]; then
    if [[ -z "${REOAC_PROCESSES:-}" || -z "${REOAC_INDEX:-}" ]]; then
        echo "error: REOAC_COORDINATOR is set; expected REOAC_PROCESSES and REOAC_INDEX beside it" >&2
        exit 2
    fi
    what+=(
        --config.distributed.mode=explicit
        "--config.distributed.coordinator=$REOAC_COORDINATOR"
        "--config.distributed.processes=$REOAC_PROCESSES"
        "--config.distributed.index=$REOAC_INDEX"
    )
fi

# The path is the caller's, the environment the project's.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3

exec "$python" -m reoac_jax.train "${what[@]}" "$@"
