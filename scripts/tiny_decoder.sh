#!/usr/bin/env bash
# A decoder of a million parameters from scratch, on countdown with numbers up to 15: a random
# checkpoint in Qwen3's layout, converted, fine-tuned in rows of just the 13 tokens of an answer, then
# in rows of 20 that end in padding, trained by its own denoising, exported. Half an hour on 2 CPU cores.
#
#   bash scripts/tiny_decoder.sh OUTPUT
#
# OUTPUT: new folder for the fine-tuned backbone (backbone/), what training made of it (exported/, as
# it would be published), the metrics of the trainings and the evaluations, as JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -eq 1 ]] || { echo "usage: bash scripts/tiny_decoder.sh OUTPUT" >&2; exit 2; }
[[ ! -e "$1" ]] || { echo "error: $1 exists; expected a new folder" >&2; exit 2; }
output="$1"

python=.venv/bin/python
[[ -x "$python" ]] || python=python
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$output"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

problems=(--config.task.max_number=15 --config.task.max_intermediate=60 --config.task.ordered=True
  --config.task.test_size=500)

"$python" scripts/random_checkpoint.py --architecture qwen3 --init training \
  --tokenizer data/tiny_mdlm --vocab-size 1200 --mask-id 1199 --model-length 128 \
  --hidden-dim 128 --head-dim 32 --n-heads 4 --n-kv-heads 2 --mlp-dim 384 --n-blocks 4 \
  --output "$work/random"
"$python" convert/to_flax.py --source "$work/random" --output "$work/start"

sft() {  # NAME START OPTION...
  local name="$1" start="$2"
  shift 2
  "$python" -m reoac_jax.sft --config configs/tiny.py "${problems[@]}" --config.exp_name="$name" \
    --config.backbone.path="$start" --config.output_dir="$work/runs" \
    --config.task.train_size=100000 --config.sft.batch_size=128 --config.sft.eval_problems=200 "$@"
  mv "$work/runs/$name"/*/metrics.jsonl "$output/$name.jsonl"
}

sft narrow "$work/start" --config.rollout.gen_len=13 --config.sft.eval_steps=13 \
  --config.sft.steps=3000 --config.sft.eval_every=1000
sft wide "$work"/runs/narrow/*/backbone --config.sft.steps=600 --config.sft.eval_every=300 \
  --config.sft.learning_rate=5e-4 --config.sft.eos_weight=0.2
mv "$work"/runs/wide/*/backbone "$output/backbone"

order=(--policy schedule:counts=1-1-1-1-1-2 --limit 500)
"$python" -m reoac_jax.evaluate --config configs/tiny.py "${problems[@]}" \
  --config.backbone.path="$output/backbone" "${order[@]}" --output "$output/before.json"
"$python" -m reoac_jax.train --config configs/tiny_trajectory.py "${problems[@]}" \
  --config.exp_name=trajectory \
  --config.backbone.path="$output/backbone" --config.output_dir="$work/runs" \
  --config.train.iterations=10
run=("$work"/runs/trajectory/*)
mv "$run/metrics.jsonl" "$output/trajectory.jsonl"
"$python" convert/from_flax.py --checkpoint "$run/checkpoints" --output "$output/exported"
"$python" convert/to_flax.py --source "$output/exported" --output "$work/again" --verify
"$python" -m reoac_jax.evaluate --config configs/tiny.py "${problems[@]}" \
  --config.backbone.path="$work/again" "${order[@]}" --output "$output/after.json"
