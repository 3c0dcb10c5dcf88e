"""A policy over positions on countdown, beside the operators of `tiny.py`.

    python -m reoac_jax.train --config configs/tiny_positions.py

As `tiny.py`, with the same frozen backbone and the same problems, but at each step a small
transformer (arXiv 2512.09106) says for each masked position, from the confidences of all, whether
it is revealed now. There is no critic and no limit of steps; a right answer is worth the more the
fewer passes it took, and `reward.passes_exponent` says how much. 48 problems an iteration, 8
episodes of each. `scripts/study.py --stages positions` compares it with operators and samplers.

Cost: 60 iterations, seven minutes of processor time. Result to expect, on unseen problems: 16 % in
4.7 passes before, 50 % in 4.8 after, where a confidence threshold solves 36 % and the best schedule
by hand 46 % (one seed); with an exponent of 0.25, 60 and 59 % in 6.5, where the best rule solves
53 %, and in the third of three seeds no more than 50 %.
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
