"""A backbone that learns to answer in six passes, on countdown with three, four and five numbers.

    python -m reoac_jax.train --config configs/mixed_few_passes.py

As `mixed.py`, with the same problems, and trained as in `tiny_few_passes.py`: from the left, four
tokens a step, the last step all the rest, so that the row of 25 is written in 6 steps.

Cost: 80 iterations, 20 minutes on 2 CPU cores. Result to expect: 19 % of 4 000 unseen problems in 6
passes, where the backbone as it was solves 10 % in the same order. The best mixture of two rules
solves 23 % there, so that it is not worth it, unlike `tiny_few_passes.py` (benchmarks/README.md).
"""

from mixed import get_config as mixed
from ml_collections import ConfigDict
from tiny_few_passes import get_config as tiny_few_passes


def get_config() -> ConfigDict:
    """What differs from `mixed.py`."""
    config = mixed()
    config.exp_name = "mixed_few_passes"
    few_passes = tiny_few_passes()
    for section in ("objective", "train", "optimizer", "checkpoint"):
        config[section] = few_passes[section]
    config.backbone.finetune_mode = "full"
    config.rollout.update(sample_strategy="sample", temperature=1.0, batch_size=1024, max_steps=6)
    config.operators.O_SCOPE = {"scope_len": 4, "threshold": 1.0}
    config.train.order = ("O_SCOPE",) * 6
    config.train.backbone_steps = 12
    return config
