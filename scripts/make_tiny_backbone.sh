#!/usr/bin/env bash
# Makes the bundled backbone data/tiny_mdlm anew: its tokenizer, and its weights from random ones by
# supervised fine-tuning on countdown: numbers to 15, then to 25, both in rows of just the 13 tokens
# of an answer, then in rows of 20 that end in padding. About 20 minutes on 2 CPU cores. The same
# seeds give the same problems and batches; weights are equal on the same kind of machine.
#
#   bash scripts/make_tiny_backbone.sh [DIR]      DIR: new or empty, default build/tiny_mdlm
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -le 1 ]] || { echo "usage: bash scripts/make_tiny_backbone.sh [DIR]" >&2; exit 2; }
output="${1:-build/tiny_mdlm}"

bash scripts/setup.sh
python=.venv/bin/python
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"$python" scripts/random_checkpoint.py --output "$work/start" --init training --seed 0 \
    --vocab-size 1200 --model-length 128 --hidden-dim 128 --cond-dim 32 --n-blocks 3 --n-heads 4
"$python" scripts/make_tiny_tokenizer.py --output "$work/start"
"$python" convert/mdlm_to_flax.py --source "$work/start" --output "$work/flax"

sft() {  # NAME START OPTION...
    local name="$1" start="$2"
    shift 2
    "$python" -m reoac_jax.sft --config configs/tiny.py --config.output_dir="$work/runs" \
        --config.exp_name="$name" --config.backbone.path="$start" --config.backbone.dropout=0.0 \
        --config.task.train_size=100000 "$@"
}

narrow=(--config.rollout.gen_len=13 --config.sft.eval_steps=13)
sft small "$work/flax" "${narrow[@]}" --config.task.max_number=15 --config.task.train_part=all \
    --config.sft.steps=3500 --config.sft.batch_size=192
sft large "$work"/runs/small/*/backbone "${narrow[@]}" --config.task.max_number=25 \
    --config.task.train_part=supervised --config.sft.steps=2500 --config.sft.batch_size=128
sft wide "$work"/runs/large/*/backbone --config.task.max_number=25 \
    --config.task.train_part=supervised --config.sft.steps=800 --config.sft.batch_size=128 \
    --config.sft.learning_rate=5e-4 --config.sft.eos_weight=0.2 --config.sft.eval_every=400
"$python" convert/flax_to_mdlm.py --source "$work"/runs/wide/*/backbone --output "$output"
echo "wrote $output; copy it over data/tiny_mdlm to bundle it"
