"""A policy over positions over a backbone that learned from its own denoising, on the mixture.

As `mixed_positions.py`, but over the backbone that `mixed_few_passes.py` leaves, frozen again, and
from a start in the order in which that one was trained: from left to right, about three tokens a
pass. In two runs: the price of a pass rises in the second.

    python convert/flax_to_mdlm.py --checkpoint runs/mixed_few_passes/<timestamp>/checkpoints \\
        --output build/mixed_few_passes
    python convert/mdlm_to_flax.py --source build/mixed_few_passes \\
        --output checkpoints/mixed_few_passes
    python -m reoac_jax.train --config configs/mixed_trained_positions.py \\
        --config.exp_name=slowly --config.reward.passes_exponent=2 --config.train.iterations=100
    python -m reoac_jax.train --config configs/mixed_trained_positions.py \\
        --config.heads.checkpoint=runs/slowly/<timestamp>/checkpoints

Cost: 100 and 120 iterations, 15 and 22 minutes on 2 CPU cores beside other work.
Result to expect: 38 % of 4 000 unseen problems in 6.0 passes, where the best mixture of what either
reaches alone has 35 %, and orders that know how long each answer is 39 % (benchmarks/README.md).
"""

from mixed_positions import get_config as mixed_positions
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What differs from `mixed_positions.py`."""
    config = mixed_positions()
    config.exp_name = "mixed_trained_positions"
    config.backbone.path = "checkpoints/mixed_few_passes"
    config.heads.positions.update(start=0.99, start_decay=2.0)
    config.reward.passes_exponent = 4.0
    config.train.iterations = 120
    return config
