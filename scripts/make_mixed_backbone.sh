#!/usr/bin/env bash
# Makes the bundled backbone data/mixed_mdlm anew: data/tiny_mdlm, fine-tuned on countdown with three,
# four and five numbers mixed in rows of 25 (configs/mixed.py), on the part "supervised" of the training
# problems. About an hour on 2 CPU cores; a second call goes on where the first one stopped.
#
#   bash scripts/make_mixed_backbone.sh [--backwards] [DIR]
#
# DIR: default build/mixed_mdlm; its run lies in DIR.run. --backwards: instead data/mixed_mdlm, fine-tuned
# for half as long on the same problems, every second one asked and answered from the target on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
start=data/tiny_mdlm steps=6000 options=()
if [[ "${1:-}" == --backwards ]]; then
    start=data/mixed_mdlm steps=3000 options=(--config.task.backwards=True)
    shift
fi
[[ $# -le 1 && "${1:-}" != -* ]] ||
    { echo "usage: bash scripts/make_mixed_backbone.sh [--backwards] [DIR]" >&2; exit 2; }
output="${1:-build/mixed_mdlm}"
work="$output.run"

bash scripts/setup.sh
python=.venv/bin/python
mkdir -p "$work"
[[ -d "$work/start" ]] ||
    "$python" convert/mdlm_to_flax.py --source "$start" --output "$work/start"

run=("$work"/runs/mixed/*)
if [[ -d "${run[0]}/checkpoints" ]]; then
    [[ -d "${run[0]}/backbone" ]] || "$python" -m reoac_jax.sft --resume "${run[0]}"
else
    rm -rf "$work/runs"
    "$python" -m reoac_jax.sft --config configs/mixed.py --config.output_dir="$work/runs" \
        --config.backbone.path="$work/start" --config.backbone.dropout=0.0 \
        --config.task.train_part=supervised --config.task.train_size=300000 \
        --config.sft.steps="$steps" --config.sft.batch_size=192 --config.sft.eos_weight=0.2 "${options[@]}"
    run=("$work"/runs/mixed/*)
fi
"$python" convert/flax_to_mdlm.py --source "${run[0]}/backbone" --output "$output"
echo "wrote $output"
