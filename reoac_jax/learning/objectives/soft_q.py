"""The original's actor: it imitates the critic's soft choice."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.config.parameters import parameter
from reoac_jax.learning.losses import mean
from reoac_jax.learning.objectives.base import ActorObjective, Loss
from reoac_jax.learning.replay import HeadBatch


@dataclasses.dataclass(frozen=True)
class SoftQ(ActorObjective):
    """Cross-entropy to softmax(Q / temperature), Q detached."""

    name: ClassVar[str] = "soft_q"
    temperature: float = parameter(1.0, "target = softmax(Q / temperature)", low=1e-4, high=1e4)

    def loss(
        self, logits: jax.Array, q: jax.Array, batch: HeadBatch[jax.Array], real: jax.Array
    ) -> Loss:
        """Also where the actor did not decide: it imitates a target, not what was done."""
        target = jax.nn.softmax(jax.lax.stop_gradient(q) / self.temperature)
        return Loss(mean(-(target * jax.nn.log_softmax(logits)).sum(axis=-1), real), {})
