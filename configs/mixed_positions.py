"""A policy over positions on countdown with three, four and five numbers.

    python -m reoac_jax.train --config configs/mixed_positions.py

As `mixed.py`, with the same frozen backbone and the same problems, and the policy of
`tiny_positions.py`: a small transformer says for each masked position whether it is revealed now.
The actor's rate falls over the run to a tenth: at a constant one a run lost what it had learned.

Cost: 160 iterations, 25 minutes on 2 CPU cores. Result to expect: 38 % of 4 000 unseen problems in
8.0 passes, where the best mixture of two rules solves 35 %, and with
`--config.reward.passes_exponent=3` 32 and 36 % in 5.5 and 6.6, where it solves 24 and 29 % (two
seeds); rules that know how long each answer is solve 40, 33 and 38 % there (benchmarks/README.md).
"""

from mixed import get_config as mixed
from ml_collections import ConfigDict
from tiny_positions import get_config as tiny_positions


def get_config() -> ConfigDict:
    """What differs from `mixed.py`."""
    config = mixed()
    config.exp_name = "mixed_positions"
    positions = tiny_positions()
    for section in ("heads", "features", "reward", "objective", "train", "checkpoint"):
        config[section] = positions[section]
    config.train.iterations = 160
    config.optimizer.actor_final_rate = 0.1
    return config
