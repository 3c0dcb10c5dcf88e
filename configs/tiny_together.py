"""Actor and backbone together, on countdown: from left to right, more and more at a time.

As `tiny_positions.py`, but all weights of the backbone are trained along with the actor, by the
policy gradient over the denoising trajectory, tokens drawn at temperature 1. Both start as they
were trained alone: the backbone as `tiny_trajectory.py` left it, which was trained from left to
right, and the actor as it learned over that one, frozen, from a start in the same order. A pass is
dear (`reward.passes_exponent` 2): the actor writes more and more at a time, and the backbone learns
to be right in it.

    python -m reoac_jax.train --config configs/tiny_trajectory.py
    python convert/flax_to_mdlm.py --checkpoint runs/tiny_trajectory/<timestamp>/checkpoints \\
        --output build/tiny_trajectory
    python convert/mdlm_to_flax.py --source build/tiny_trajectory \\
        --output checkpoints/tiny_trajectory
    python -m reoac_jax.train --config configs/tiny_positions.py \\
        --config.backbone.path=checkpoints/tiny_trajectory --config.exp_name=from_the_left \\
        --config.reward.passes_exponent=0.25 --config.heads.positions.start=0.85 \\
        --config.heads.positions.start_decay=2.0
    python -m reoac_jax.train --config configs/tiny_together.py \\
        --config.heads.checkpoint=runs/from_the_left/<timestamp>/checkpoints

Cost: 80 iterations, 20 minutes on 2 CPU cores beside other work, after 12 and 20 for what stands
before it. Result to expect: 68 and 66 % of 1 000 unseen problems in 5.7 and 6.2 passes (2 seeds);
the same backbone trained further alone, in a fixed order of five passes (`tiny_in_five.py`), solves
67 and 68 %, so that together they are not above either alone (benchmarks/README.md).
"""

from ml_collections import ConfigDict
from tiny_positions import get_config as tiny_positions


def get_config() -> ConfigDict:
    """What differs from `tiny_positions.py`."""
    config = tiny_positions()
    config.exp_name = "tiny_together"
    config.backbone.path = "checkpoints/tiny_trajectory"
    config.heads.positions.update(start=0.85, start_decay=2.0)  # as the heads that it starts from
    config.reward.passes_exponent = 2.0
    config.backbone.finetune_mode = "full"
    config.objective.backbone = "trajectory"
    config.rollout.update(sample_strategy="sample", temperature=1.0)
    config.train.update(iterations=80, backbone_steps=6, backbone_batch=512)
    config.optimizer.update(actor_rate=5e-3, backbone_rate=1e-4, backbone_final_rate=0.1)
    config.optimizer.weight_decay = 0.0
    return config
