"""The original's actor: it imitates the critic's soft choice."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.config.parameters import parameter
from reoac_jax.learning.losses import mean
from reoac_jax.learning.objectives.base import ActorObjective, Loss
from reoac_jax.learning.replay import HeadBatch
from reoac_jax.policy.distributions import Distribution, OneOperator


@dataclasses.dataclass(frozen=True)
class SoftQ(ActorObjective):
    """Cross-entropy to softmax(Q / temperature), Q detached."""

    name: ClassVar[str] = "soft_q"
    reads_q: ClassVar[bool] = True
    temperature: float = parameter(1.0, "target = softmax(Q / temperature)", low=1e-4, high=1e4)

    def loss(
        self,
        policy: Distribution,
        q: jax.Array | None,
        batch: HeadBatch[jax.Array],
        real: jax.Array,
    ) -> Loss:
        """Also where the actor did not decide: it imitates a target, not what was done."""
        assert isinstance(policy, OneOperator) and q is not None
        target = jax.nn.softmax(jax.lax.stop_gradient(q) / self.temperature)
        return Loss(mean(-(target * policy.log_probs).sum(axis=-1), real), {})
