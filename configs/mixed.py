"""Countdown with three, four and five numbers in one set: answers of 12, 18 and 24 tokens.

    python -m reoac_jax.train --config configs/mixed.py

As `tiny.py`, with the backbone `checkpoints/mixed_mdlm` (`python convert/mdlm_to_flax.py --source
data/mixed_mdlm --output checkpoints/mixed_mdlm`). A row has room for the longest answer and eos;
the others end in padding. Numbers are at most 15 and results at most 99.

Cost: 20 iterations; no actor over operators has been trained to its end yet (over positions:
`mixed_positions.py`). Result to expect from the backbone as
it is, on development problems: a confidence threshold solves 42 % in 11.7 passes, the best fixed
sequence of operators that was found 46 % in 10.9 (`scripts/room.py`).
"""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config() -> ConfigDict:
    """What differs from `tiny.py`."""
    config = tiny()
    config.exp_name = "mixed"
    config.backbone.path = "checkpoints/mixed_mdlm"
    config.task.update(numbers=3, most_numbers=5, max_number=15, max_intermediate=99)
    config.task.update(train_size=60_000, test_size=4000)  # 33 000 of the 60 000 are different
    config.rollout.update(max_steps=25, gen_len=25, empty_operator="mask")
    # Operators that may reveal by confidence, as adaptive samplers do: an even quota of a row as
    # long as the longest answer wastes passes on the padding of the others.
    config.operators.names = ("O_NEXT", "O_SCOPE", "O_NUM", "O_OP", "O_FAST", "O_CONFIDENT")
    config.operators.O_SCOPE.threshold = 0.95
    config.operators.update(O_NUM={"max_tokens": 25}, O_OP={"max_tokens": 25})
    config.operators.O_FAST.update(scope_len=25, step_scale=1.0, threshold=0.7)
    config.operators.O_CONFIDENT = {"threshold": 0.9}
    config.sft.update(eval_steps=25)
    return config
