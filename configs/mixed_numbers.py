"""A policy over positions that starts with the numbers, on answers of several lengths.

    python -m reoac_jax.train --config configs/mixed_numbers.py

As `mixed_positions.py`, but the untrained policy is the strongest rule by hand: the numbers first,
the surest first, one a pass, and where none is left to write all the rest at once. The policy sees
which tokens are numbers.

Cost: 110 iterations, 30 minutes on 2 CPU cores beside other work. Result to expect: 41 % of 4 000
unseen problems in 9.5 passes, as much as that rule; with `--config.reward.passes_exponent=3` 35 %
in 6.9, and biased (`--policy actor:logit_bias=-1.5`) 41 % in 8.3, where the best mixture of two
rules solves 36 % and rules that know how long each answer is 40 % (benchmarks/README.md).
"""

from mixed_positions import get_config as mixed_positions
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What differs from `mixed_positions.py`."""
    config = mixed_positions()
    config.exp_name = "mixed_numbers"
    config.heads.positions.update(start=0.97, start_decay=4.0, start_order="numbers")
    config.train.iterations = 110
    return config
