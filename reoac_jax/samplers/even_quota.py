"""What the rules with an even quota share: order the masked positions, reveal the first of them."""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from reoac_jax.config.parameters import parameter
from reoac_jax.policy.ranking import ascending
from reoac_jax.samplers.interface import Move, OrderingSampler, ScheduledSampler, View


@dataclasses.dataclass(frozen=True)
class EvenQuotaSampler(OrderingSampler, ScheduledSampler):
    """Reveals the k / s masked positions of highest score, rounded up, with s steps left.

    k counts the masked positions. With `skip_eos` it counts only those whose proposal does not end
    the text, and so does the quota (at least 1): positions are revealed in order until it is met,
    those of padding among them for nothing. The steps are then spread over the text alone.
    """

    skip_eos: bool = parameter(False, "the quota counts only positions whose proposal is not eos")

    @abc.abstractmethod
    def score(self, view: View) -> jax.Array:
        """float32 `[G]`, the higher the earlier."""

    def step(self, view: View) -> Move:
        score = self.score(view)
        if not self.skip_eos:
            return Move(view.best(score, -(-view.masked.sum() // view.steps_left)))
        counted = view.masked & ~view.ends
        quota = jnp.maximum(-(-counted.sum() // view.steps_left), 1)
        order = ascending(-score, view.masked)
        counted_before = jnp.cumsum(counted[order]) - counted[order]
        reveal = jnp.zeros_like(view.masked).at[order].set(counted_before < quota)
        return Move(view.masked & reveal)
