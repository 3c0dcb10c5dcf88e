#!/usr/bin/env bash
# The whole chain on bundled inputs, on a CPU, without network beyond the package index: converts the
# bundled PyTorch checkpoint, trains actor and critic over it, and compares the policy before and
# after with four samplers, on problems none of them has seen.
#
#   bash scripts/demo.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
python=.venv/bin/python
evaluate() { # NAME POLICY [more options]
    echo "-- $1"
    "$python" -m reoac_jax.evaluate --config configs/tiny.py --policy "$2" \
        --output "runs/demo/$1.json" "${@:3}"
}

echo
echo "demo 1/4: the bundled PyTorch checkpoint data/tiny_mdlm becomes a Flax backbone"
rm -rf checkpoints/tiny_mdlm
"$python" convert/mdlm_to_flax.py --source data/tiny_mdlm --output checkpoints/tiny_mdlm --verify

echo
echo "demo 2/4: four samplers, random operators and the untrained actor"
evaluate confidence confidence
evaluate left_to_right left_to_right
evaluate threshold threshold
evaluate entropy_bound entropy_bound
evaluate random_operator random_operator
evaluate before untrained_actor

echo
echo "demo 3/4: actor and critic learn on training problems; the backbone stays as it is"
"$python" -m reoac_jax.train --config configs/tiny.py
run="$(ls -d runs/tiny/*/ | tail -n 1)"

echo
echo "demo 4/4: the trained actor on the same problems as above"
evaluate after actor --checkpoint "${run}checkpoints"

echo
"$python" - <<'END'
import json

print(f"{'policy':<16} {'accuracy':>9} {'95 % interval':>16} {'passes':>7} {'cost':>6}")
for name in ("confidence", "left_to_right", "threshold", "entropy_bound", "random_operator", "before", "after"):
    with open(f"runs/demo/{name}.json") as file:
        result = json.load(file)
    low, high = result["interval_95"]
    print(
        f"{name:<16} {result['accuracy']:>9.1%} {low:>8.1%}-{high:<7.1%}"
        f" {result['forward_passes']:>7.2f} {result['avg_cost']:>6.2f}"
    )
END
cat <<END

What is where:
  $run    the run: config.json, metrics.jsonl, samples/, checkpoints/
  runs/demo/*.json             the numbers above; the .jsonl beside each holds every answer

What to try next:
  .venv/bin/python -m reoac_jax.train --resume $run --config.train.iterations=100
  bash scripts/train_reoac.sh configs/tiny.py lora
  README.md, "The real job": GSM8K with the published 170M backbone
END
