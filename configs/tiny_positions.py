"""A policy over positions on countdown, beside the operators of `tiny.py`.

    python -m reoac_jax.train --config configs/tiny_positions.py

As `tiny.py`, with the same frozen backbone and the same problems, but at each step a small
transformer (arXiv 2512.09106) says for each masked position, from the confidences of all, whether
it is revealed now. There is no critic and no limit of steps; a right answer is worth the more the
fewer passes it took, and `reward.passes_exponent` says how much. 48 problems an iteration, 8
episodes of each. `scripts/study.py --stages positions` compares it with operators and samplers.

Cost: 120 iterations, nine minutes on 2 CPU cores beside other work. Result to expect, on unseen
problems, three seeds: 16 % in 4.7 passes before; after, 59, 53 and 52 % in 5.5, 4.2 and 4.6, where
the best mixture of two rules solves 52, 39 and 44 %; with an exponent of 0.25, 58 % in 5.8, where
it solves 52 %.
"""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config() -> ConfigDict:
    """What differs from `tiny.py`."""
    config = tiny()
    config.exp_name = "tiny_positions"
    config.rollout.max_steps = 20  # as many as there are positions: every step reveals one
    config.heads.policy = "positions"
    config.heads.positions = {"width": 32, "mlp_width": 128}
    config.features.operator_preview = False
    config.reward.update(cost_lambda=0.0, passes_exponent=1.0)
    config.objective.policy_gradient.entropy_weight = 0.0
    config.train.update(iterations=120, episodes_per_iter=384, episodes_per_prompt=8)
    config.train.update(critic_steps=0, actor_steps=8, head_batch=1024, buffer_size=384)
    config.optimizer.actor_final_rate = 0.1  # at a constant one a run lost what it had learned
    config.checkpoint.every = 10
    return config
