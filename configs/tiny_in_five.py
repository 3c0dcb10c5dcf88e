"""The backbone that learned from its own denoising in seven passes learns to write in five.

As `tiny_trajectory.py`, from where that one ends, but two tokens a pass from left to right, and the
rest in the fifth. Beside `tiny_few_passes.py`, which starts from the bundled backbone and goes down
to three passes at once. `tiny_together.py` says how `checkpoints/tiny_trajectory` is made.

    python -m reoac_jax.train --config configs/tiny_in_five.py

Cost: 80 iterations, seven minutes on 2 CPU cores, after 12 for what stands before it.
Result to expect: 67 and 68 % of 1 000 unseen problems in 5 passes (2 seeds), 50 % before any
training and 60 % after that in seven passes; going on for as long again brings nothing.
"""

from ml_collections import ConfigDict
from tiny_trajectory import get_config as tiny_trajectory


def get_config() -> ConfigDict:
    """What differs from `tiny_trajectory.py`."""
    config = tiny_trajectory()
    config.exp_name = "tiny_in_five"
    config.backbone.path = "checkpoints/tiny_trajectory"
    config.rollout.max_steps = 5
    config.train.order = ("O_SCOPE",) * 5
    config.train.update(iterations=80, episodes_per_iter=384, buffer_size=384, backbone_steps=6)
    config.optimizer.backbone_final_rate = 0.1
    return config
