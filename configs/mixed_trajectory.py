"""A backbone that learns from its own denoising, on countdown with three, four and five numbers.

    python -m reoac_jax.train --config configs/mixed_trajectory.py

As `mixed.py`, with the same problems, and trained as in `tiny_trajectory.py`: from the left, two
tokens a step, so that the row of 25 is written in 13 steps. 64 problems an iteration, 8 episodes of
each, each group's advantages over its own standard deviation. `mixed_few_passes.py` goes on from
here.

Cost: 60 iterations, 19 minutes on 2 CPU cores beside other work. Result to expect: 39 % of drawn
answers are right, 24 % in the first ten iterations.
"""

from mixed import get_config as mixed
from ml_collections import ConfigDict
from tiny_trajectory import get_config as tiny_trajectory


def get_config() -> ConfigDict:
    """What differs from `mixed.py`."""
    config = mixed()
    config.exp_name = "mixed_trajectory"
    trajectory = tiny_trajectory()
    for section in ("objective", "train", "optimizer", "checkpoint"):
        config[section] = trajectory[section]
    config.backbone.finetune_mode = "full"
    config.rollout.update(sample_strategy="sample", temperature=1.0, batch_size=1024, max_steps=13)
    config.operators.O_SCOPE = {"scope_len": 2, "threshold": 1.0}
    config.objective.advantage_scale = "group"
    config.train.order = ("O_SCOPE",) * 13
    config.train.backbone_steps = 13
    config.optimizer.update(backbone_rate=1.5e-4, backbone_final_rate=0.3)
    config.checkpoint.keep_latest = 8
    return config
