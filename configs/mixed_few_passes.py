"""A backbone that learns to answer in eight passes, on countdown with three, four and five numbers.

As `mixed_trajectory.py`, from where that one ends, but three tokens a pass from left to right, and
the rest in the eighth. `scripts/few_passes.py` compares it with the backbone before both.

    python -m reoac_jax.train --config configs/mixed_trajectory.py
    python convert/flax_to_mdlm.py --checkpoint runs/mixed_trajectory/<timestamp>/checkpoints \\
        --output build/mixed_trajectory
    python convert/mdlm_to_flax.py --source build/mixed_trajectory \\
        --output checkpoints/mixed_trajectory
    python -m reoac_jax.train --config configs/mixed_few_passes.py

Cost: 120 iterations, 35 minutes on 2 CPU cores beside other work, after 19 for what stands before
it. Result to expect: 40 % of 4 000 unseen problems in 8 passes, where the best mixture of two rules
of the backbone before both solves 35 %, and its rules that know how long each answer is 40 %
(benchmarks/README.md).
"""

from mixed_trajectory import get_config as mixed_trajectory
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What differs from `mixed_trajectory.py`."""
    config = mixed_trajectory()
    config.exp_name = "mixed_few_passes"
    config.backbone.path = "checkpoints/mixed_trajectory"
    config.rollout.max_steps = 8
    config.operators.O_SCOPE.scope_len = 3
    config.train.order = ("O_SCOPE",) * 8
    config.train.update(iterations=120, episodes_per_iter=768, buffer_size=768, backbone_steps=12)
    config.optimizer.backbone_final_rate = 0.1
    return config
