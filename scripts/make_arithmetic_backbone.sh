#!/usr/bin/env bash
# Fine-tunes the bundled backbone on arithmetic word problems, for configs/arithmetic.py. It took 9
# minutes on 2 CPU cores beside other work.
#
#   bash scripts/make_arithmetic_backbone.sh [DIR]    DIR: new, default checkpoints/arithmetic_mdlm
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -le 1 ]] || { echo "usage: bash scripts/make_arithmetic_backbone.sh [DIR]" >&2; exit 2; }
output="${1:-checkpoints/arithmetic_mdlm}"
[[ ! -e "$output" ]] || { echo "error: $output exists; expected a new folder" >&2; exit 2; }

python=.venv/bin/python
[[ -x "$python" ]] || python=python
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"$python" convert/mdlm_to_flax.py --source data/tiny_mdlm --output "$work/tiny"
"$python" -m reoac_jax.sft --config configs/arithmetic.py --config.output_dir="$work/runs" \
    --config.backbone.path="$work/tiny" --config.backbone.dropout=0.0 \
    --config.task.train_size=100000
mkdir -p "$(dirname "$output")"
mv "$work"/runs/arithmetic/*/backbone "$output"
echo "wrote $output"
