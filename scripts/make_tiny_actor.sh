#!/usr/bin/env bash
# Makes the bundled actor data/tiny_actor anew: 20 iterations of configs/tiny.py over data/tiny_mdlm,
# with a buffer of one iteration, so that the checkpoint stays small. Two minutes on 2 CPU cores.
#
#   bash scripts/make_tiny_actor.sh [DIR]      DIR: new or empty, default build/tiny_actor
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -le 1 ]] || { echo "usage: bash scripts/make_tiny_actor.sh [DIR]" >&2; exit 2; }
output="${1:-build/tiny_actor}"
[[ ! -d "$output" || -z "$(ls -A "$output")" ]] || {
    echo "error: $output is not empty; expected a new or empty folder" >&2
    exit 2
}

bash scripts/setup.sh
python=.venv/bin/python
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"$python" convert/mdlm_to_flax.py --source data/tiny_mdlm --output "$work/tiny_mdlm"
"$python" -m reoac_jax.train --config configs/tiny.py --config.backbone.path="$work/tiny_mdlm" \
    --config.output_dir="$work/runs" --config.train.buffer_size=1152 \
    --config.checkpoint.keep_best=0 --config.checkpoint.keep_latest=1
mkdir -p "$output"
cp -r "$work"/runs/tiny/*/checkpoints/* "$output"
echo "wrote $output; copy it over data/tiny_actor to bundle it"
