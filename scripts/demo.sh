#!/usr/bin/env bash
# The whole chain on bundled inputs, on a CPU, without network beyond the package index: converts the
# bundled PyTorch checkpoint, compares a trained actor with two samplers, and trains the backbone by
# its own denoising; all are judged on problems that none of them has seen.
#
#   bash scripts/demo.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
python=.venv/bin/python
evaluate() { # NAME POLICY [more options]
    echo "-- $1"
    "$python" -m reoac_jax.evaluate --config configs/tiny.py --config.evaluation.batch_size=500 \
        --policy "$2" --output "runs/demo/$1.json" "${@:3}"
}
order=schedule:counts=1-1-1-1-1-2 # five steps of one token, one of two, the rest

echo
echo "demo 1/4: the bundled PyTorch checkpoint data/tiny_mdlm becomes a Flax backbone"
rm -rf checkpoints/tiny_mdlm
"$python" convert/mdlm_to_flax.py --source data/tiny_mdlm --output checkpoints/tiny_mdlm --verify

echo
echo "demo 2/4: two samplers, and the bundled actor, which learned over the same frozen backbone"
evaluate threshold threshold
evaluate before "$order"
evaluate actor actor --checkpoint data/tiny_actor/19

echo
echo "demo 3/4: the backbone learns from its own denoising, by a policy gradient; watch its accuracy"
"$python" -m reoac_jax.train --config configs/tiny_trajectory.py --config.train.iterations=7 \
    --config.train.episodes_per_iter=384 --config.train.backbone_batch=384 \
    --config.train.buffer_size=384 --config.rollout.batch_size=384
run="$(ls -d runs/tiny_trajectory/*/ | tail -n 1)"

echo
echo "demo 4/4: the trained backbone in the same order, on the same problems"
evaluate after "$order" --checkpoint "${run}checkpoints"

echo
"$python" - <<'END'
import json

SHOWN = {
    "threshold": "confidence threshold",
    "actor": "trained actor",
    "before": "left to right",
    "after": "the same, trained",
}
print(f"{'policy':<26} {'accuracy':>9} {'95 % interval':>16} {'passes':>7}")
for name, words in SHOWN.items():
    with open(f"runs/demo/{name}.json") as file:
        result = json.load(file)
    low, high = result["interval_95"]
    print(
        f"{words:<26} {result['accuracy']:>9.1%} {low:>8.1%}-{high:<7.1%}"
        f" {result['forward_passes']:>7.2f}"
    )
END
cat <<END

What is where:
  $run    the run: config.json, metrics.jsonl, samples/, checkpoints/
  runs/demo/*.json             the numbers above; the .jsonl beside each holds every answer

What to try next:
  .venv/bin/python -m reoac_jax.train --resume $run --config.train.iterations=60
  .venv/bin/python -m reoac_jax.train --config configs/tiny.py    (the actor, anew)
  README.md, "The real job": GSM8K with the published 170M backbone
END
