"""Actor and backbone together, on countdown: positions from left to right, ever more at a time.

    python -m reoac_jax.train --config configs/tiny_together.py

As `tiny_positions.py`, but all weights of the backbone are trained along with the actor, by the
policy gradient over the denoising trajectory, with tokens drawn at temperature 1; and the untrained
policy writes from left to right, one token or two a pass, which is an order that the backbone can
learn in before it is fast. A pass is dear (`reward.passes_exponent` 2), so that the actor then
writes more and more at a time.

Cost: TODO
"""

from ml_collections import ConfigDict
from tiny_positions import get_config as tiny_positions


def get_config() -> ConfigDict:
    """What differs from `tiny_positions.py`."""
    config = tiny_positions()
    config.exp_name = "tiny_together"
    config.heads.positions.update(start=0.85, start_decay=2.0)
    config.reward.passes_exponent = 2.0
    config.backbone.finetune_mode = "full"
    config.objective.backbone = "trajectory"
    config.rollout.update(sample_strategy="sample", temperature=1.0)
    config.train.update(backbone_steps=6, backbone_batch=512)
    config.optimizer.update(actor_rate=5e-3, backbone_rate=1e-4, backbone_final_rate=0.1)
    config.optimizer.weight_decay = 0.0
    return config
