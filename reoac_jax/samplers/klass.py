"""What is confident and has stopped changing."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import DrawSettings, measured
from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.interface import AdaptiveSampler, Move, View
from reoac_jax.samplers.low_confidence import pass_quota


@dataclasses.dataclass(frozen=True)
class Klass(AdaptiveSampler):
    """In pass s of a block, every i in M that is ready; if none is, the q_s of largest c_i.

        ready = c_i > threshold, and s >= n - 1, and each of the last n KL_i < stable
        KL_i = sum over v of p_i(v) log((p_i(v) + 1e-12) / (p_before_i(v) + 1e-12))

    p_before is of the row's last pass, 0 at its first one, and goes on between blocks. q_s is the
    quota of `low_confidence`, at most what is masked. Departures: the block's last pass reveals the
    rest (the published code never meets this); p_i is of temperature 1 where the published code
    measures the distribution with its noise in it. On GSM8K with LLaDA 0.6 and 0.015 were used.

    No distribution is kept: p_before is computed again from the last pass's hidden states.
    """

    name: ClassVar[str] = "klass"
    source: ClassVar[str] = "shkim0116/KLASS, arXiv 2511.05664"
    shares_steps: ClassVar[bool] = True

    block_len: int = parameter(64, "positions of a block; 0: the whole row", low=0, high=65536)
    threshold: float = parameter(0.9, "confidence of a ready position", low=0.0, high=1.0)
    stable: float = parameter(0.01, "KL, in nats, under which it has settled", low=0.0, high=1e6)
    history: int = parameter(2, "n, passes for which it has to be settled", low=1, high=64)

    def draw(self, configured: DrawSettings) -> DrawSettings:
        return dataclasses.replace(super().draw(configured), divergence=True)

    def begin(self, gen_len: int) -> jax.Array:
        return jnp.zeros((self.history, gen_len))

    def step(self, view: View) -> Move:
        confidence = view.proposal.confidence
        divergences = jnp.roll(view.memory, -1, axis=0)
        divergences = divergences.at[-1].set(measured(view.proposal.divergence))
        settled = (divergences < self.stable).all(axis=0) & (view.step >= self.history - 1)
        ready = view.masked & settled & (confidence > self.threshold)
        reveal = jnp.where(ready.any(), ready, view.best(confidence, pass_quota(view)))
        return Move(reveal, memory=divergences)
