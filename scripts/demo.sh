#!/usr/bin/env bash
# The whole chain on bundled inputs, on a CPU, without network beyond the package index:
# converts the bundled PyTorch checkpoint, trains actor and critic, evaluates.
#
#   bash scripts/demo.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
python=.venv/bin/python

echo
echo "demo 1/3: the bundled PyTorch checkpoint data/tiny_mdlm becomes a Flax backbone"
if [[ -d checkpoints/tiny_mdlm ]]; then
    echo "checkpoints/tiny_mdlm is there already"
else
    "$python" convert/mdlm_to_flax.py --source data/tiny_mdlm --output checkpoints/tiny_mdlm --verify
fi

echo
echo "demo 2/3: actor and critic learn on countdown problems; the backbone stays as it is"
"$python" -m reoac_jax.train --config configs/tiny.py

echo
echo "demo 3/3: the trained policy on 1000 problems it has not seen"
"$python" -m reoac_jax.evaluate --config configs/tiny.py --output runs/demo_evaluation.json

run="$(ls -d runs/tiny/*/ | tail -n 1)"
cat <<END

What is where:
  $run            the run: config.json, metrics.jsonl, samples/, checkpoints/
  runs/demo_evaluation.json     accuracy with its interval, cost, forward passes
  runs/demo_evaluation.jsonl    every answer

What to try next:
  .venv/bin/python -m reoac_jax.train --resume $run --config.train.iterations=40
  bash scripts/train_reoac.sh configs/tiny.py lora --config.rollout.max_steps=13
  README.md, "The real job": GSM8K with the published 170M backbone
END
