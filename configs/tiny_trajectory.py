"""A backbone that learns from its own denoising, on countdown, in minutes on a laptop.

    python -m reoac_jax.train --config configs/tiny_trajectory.py

As `tiny.py`, but all weights of the backbone are trained, by a policy gradient over the denoising
trajectory, and the order is fixed: left to right in 7 steps, five of one token, one of two, the
rest. 64 problems an iteration, 8 episodes of each, tokens drawn at temperature 1, one epoch of
minibatches. The run's accuracy is that of drawn tokens; with the most probable ones:

    python -m reoac_jax.evaluate --config RUN/config.json --checkpoint RUN/checkpoints \\
        --policy schedule:counts=1-1-1-1-1-2 --output FILE

Cost: 60 iterations, 12 minutes on 2 CPU cores beside other work. Result to expect: 63 to 65 % of
1 000 unseen problems in 7 passes, 53.4 % before (3 seeds; benchmarks/README.md).
"""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config() -> ConfigDict:
    """What differs from `tiny.py`."""
    config = tiny()
    config.exp_name = "tiny_trajectory"
    config.backbone.finetune_mode = "full"
    config.objective.backbone = "trajectory"
    config.rollout.update(sample_strategy="sample", temperature=1.0, batch_size=512)
    # The second to last step; the last one reveals all.
    config.operators.O_SCOPE = {"scope_len": 2, "threshold": 1.0}
    config.train.order = ("O_BRANCH",) * 5 + ("O_SCOPE",) * 2
    config.train.update(iterations=60, episodes_per_iter=512, episodes_per_prompt=8)
    # 512 episodes of 7 steps are 7 minibatches of 512.
    config.train.update(critic_steps=0, actor_steps=0, backbone_steps=7, backbone_batch=512)
    config.train.buffer_size = 512
    config.optimizer.update(backbone_rate=1e-4, weight_decay=0.0)
    config.checkpoint.update(every=10, keep_latest=7)
    return config
