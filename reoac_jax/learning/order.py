"""An order of operators that stands before training, in the place of the actor's picks."""

from typing import Any

import jax
import jax.numpy as jnp

from reoac_jax.policy.heads import AppliesHeads, HeadOutput
from reoac_jax.policy.observation import Observation

_NEVER = -1e9  # a logit: probability 0, and log-probabilities that are still finite


class FixedOrder:
    """Heads whose actor wants the operator of the step, whatever it sees; the critic is as it is.

    order: one operator for each step, by its place in the list.
    """

    def __init__(self, heads: AppliesHeads, order: tuple[int, ...]):
        self._heads, self._order = heads, order

    def apply(
        self, params: Any, observation: Observation[jax.Array], step: jax.Array
    ) -> HeadOutput:
        output = self._heads.apply(params, observation, step)
        wanted = jnp.array(self._order, jnp.int32)[step]
        own = jnp.arange(output.logits.shape[-1]) == wanted[:, None]
        return output._replace(logits=jnp.where(own, 0.0, _NEVER))
