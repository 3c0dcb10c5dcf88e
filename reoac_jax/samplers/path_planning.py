"""Plans which positions to keep, and takes back what it doubts."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from reoac_jax.backbone.draw import DrawSettings, measured
from reoac_jax.config.parameters import parameter
from reoac_jax.policy.ranking import lowest
from reoac_jax.samplers.interface import Move, OrderingSampler, ScheduledSampler, View


@dataclasses.dataclass(frozen=True)
class PathPlanning(OrderingSampler, ScheduledSampler):
    """After step i = 1..T, the m = floor(free (T - i) / T) positions of lowest score are masked.

    free positions are those not given. The score of a masked position is log p_i(token proposed),
    of a revealed one eta log p_i(token that stands there), p_i from the raw logits as at a masked
    one. All others that were masked take their token. eta 0: nothing revealed is masked again.
    Departure: the published code scores a token drawn anew where one is revealed. In a block, free
    counts its own positions and T its own steps. A row is finished as soon as m is 0.
    """

    name: ClassVar[str] = "path_planning"
    source: ClassVar[str] = "pengzhangzhi/Path-Planning (P2), arXiv 2502.03540"

    eta: float = parameter(1.0, "weight of what is revealed", low=0.0, high=1e6)

    def draw(self, configured: DrawSettings) -> DrawSettings:
        return dataclasses.replace(super().draw(configured), standing=True)

    def step(self, view: View) -> Move:
        smallest = jnp.finfo(jnp.float32).tiny
        proposed = jnp.log(jnp.maximum(view.proposal.confidence, smallest))
        standing = jnp.log(jnp.maximum(measured(view.proposal.standing), smallest))
        score = jnp.where(view.masked, proposed, self.eta * standing)
        free = view.masked | view.revealed
        count = free.sum() * (view.steps_left - 1) // view.steps
        masked = lowest(score, free, count)
        return Move(view.masked & ~masked, view.revealed & masked, done=count == 0)
