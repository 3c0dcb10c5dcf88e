"""A policy over positions that starts with the numbers, on answers of several lengths.

    python -m reoac_jax.train --config configs/mixed_numbers.py

As `mixed_positions.py`, but the untrained policy is the strongest rule by hand: the numbers first,
the surest first, one a pass, and where none is left to write all the rest at once. The policy sees
which tokens are numbers.
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
