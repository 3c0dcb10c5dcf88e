#!/usr/bin/env bash
# Supervised fine-tuning, training of the policy and evaluation on GSM8K, with a small backbone from
# scratch (configs/gsm8k_midsize.py). It took 25 minutes on 2 CPU cores beside other work.
#
#   bash scripts/gsm8k_midsize.sh DATA OUTPUT
#
# DATA: folder with gsm8k/{train,test}.jsonl as published and gpt2/ with the tokenizer's files.
# OUTPUT: new folder for the metrics of both trainings and the evaluations, as JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ $# -eq 2 ]] || { echo "usage: bash scripts/gsm8k_midsize.sh DATA OUTPUT" >&2; exit 2; }
[[ -d "$1/gsm8k" && -d "$1/gpt2" ]] || { echo "error: $1 holds no gsm8k/ and gpt2/" >&2; exit 2; }
[[ ! -e "$2" ]] || { echo "error: $2 exists; expected a new folder" >&2; exit 2; }
data="$(cd "$1" && pwd)" output="$2"

python=.venv/bin/python
[[ -x "$python" ]] || python=python
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
config=(--config configs/gsm8k_midsize.py
  --config.backbone.tokenizer_path="$data/gpt2" --config.output_dir="$work/runs"
  --config.task.train_file="$work/train.jsonl" --config.task.test_file="$work/test.jsonl")

"$python" -m reoac_jax.tasks.prepare gsm8k configs/gsm8k_midsize.py all --source "$data/gsm8k" \
  --config.task.train_file="$work/train.jsonl" --config.task.test_file="$work/test.jsonl"
"$python" scripts/random_checkpoint.py --init training --preset owt --model-length 256 \
  --hidden-dim 192 --cond-dim 64 --n-blocks 6 --n-heads 6 --output "$work/random"
"$python" convert/mdlm_to_flax.py --source "$work/random" --output "$work/start"

"$python" -m reoac_jax.sft "${config[@]}" --config.backbone.path="$work/start" \
  --config.exp_name=sft
mv "$work"/runs/sft/*/backbone "$work/backbone"
config+=(--config.backbone.path="$work/backbone")
mkdir "$work/results"
for policy in confidence left_to_right random_operator; do
  "$python" -m reoac_jax.evaluate "${config[@]}" --policy "$policy" --limit 128 \
    --output "$work/results/$policy.json"
done
"$python" -m reoac_jax.train "${config[@]}"
"$python" -m reoac_jax.evaluate "${config[@]}" --limit 128 --output "$work/results/actor.json"
rm "$work"/results/*.jsonl  # every single answer
sed -i "s|$data|DATA|g; s|$work|WORK|g" "$work"/results/*.json
cp "$work"/runs/sft/*/metrics.jsonl "$work/results/sft.jsonl"
cp "$work"/runs/gsm8k_midsize/*/metrics.jsonl "$work/results/train.jsonl"
mkdir -p "$(dirname "$output")"
mv "$work/results" "$output"
echo "wrote $output"
