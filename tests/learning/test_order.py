"""A fixed order in the place of the actor's picks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reoac_jax.config import load_config
from reoac_jax.learning.order import FixedOrder
from reoac_jax.policy.heads import HeadOutput
from reoac_jax.system.errors import InputError


class Wilful:
    """Heads of which only the critic's word may count."""

    def apply(self, params, observation, step):
        return HeadOutput(logits=observation, q=2 * observation)


def test_the_operator_of_the_step_is_picked_whatever_the_actor_wants():
    observation = jnp.array(np.random.default_rng(0).standard_normal((4, 3)) * 50)
    step = jnp.array([0, 1, 2, 1])
    output = FixedOrder(Wilful(), (2, 0, 1)).apply(None, observation, step)
    for seed in range(20):
        drawn = jax.random.categorical(jax.random.key(seed), output.logits)
        np.testing.assert_array_equal(drawn, [2, 0, 1, 0])
    np.testing.assert_array_equal(output.q, 2 * observation)
    log_probs = jax.nn.log_softmax(output.logits)
    assert np.isfinite(log_probs).all()
    np.testing.assert_array_equal(log_probs[jnp.arange(4), jnp.array([2, 0, 1, 0])], np.zeros(4))


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["train.order=O_SCOPE,O_NUM"], "train.order is .* as many operators as rollout.max_steps"),
        (["train.order=" + ",".join(["O_NONE"] * 7)], "train.order is .*O_NONE"),
        (["train.order=" + ",".join(["O_SCOPE"] * 7)], "train.actor_steps is 16; expected 0"),
        (
            ["objective.backbone=trajectory", "backbone.finetune_mode=lora"],
            "rollout.sample_strategy is argmax; expected sample",
        ),
        (
            ["objective.backbone=trajectory", "backbone.finetune_mode=full", "rollout.branch_k=2",
             "rollout.sample_strategy=sample"],
            "rollout.branch_k is 2; expected 0",
        ),
        (
            ["objective.backbone=trajectory", "backbone.finetune_mode=full",
             "rollout.sample_strategy=sample", "train.episodes_per_prompt=1",
             "objective.actor=soft_q"],
            "train.episodes_per_prompt is 1; expected 2 or more, or objective.advantage critic",
        ),
        (
            ["backbone.finetune_mode=lora", "train.episodes_per_prompt=1",
             "objective.actor=soft_q"],
            "train.episodes_per_prompt is 1; expected 2 or more, for objective.backbone generated",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(configs, overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(configs / "tiny.py", [f"--config.{override}" for override in overrides])
