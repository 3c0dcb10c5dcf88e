"""LLaDA's own: by confidence, the same number each pass."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import DrawSettings, measured
from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.interface import Move, OrderingSampler, ScheduledSampler, View


def pass_quota(view: View) -> jax.Array:
    """int32 `[]`: |M0| / S tokens, rounded down, and one more in the first |M0| mod S passes.

    |M0| masks when the block began, S its steps. 0 only where nothing is masked any more.
    """
    return view.masks // view.steps + (view.step < view.masks % view.steps)


@dataclasses.dataclass(frozen=True)
class LowConfidence(OrderingSampler, ScheduledSampler):
    """The q_s of M of largest c_i, q_s = floor(|M0| / S) + [s < |M0| mod S] in pass s of a block.

    |M0| masks of the block when it begins, S = steps / blocks. With `eos_last` a token that ends
    the text counts as c = 0, and the other c are those of p_i without such tokens (the published
    code needs it for whole rows of the Instruct model). Departures: where the blocks do not divide
    the steps, the first blocks get one more; a finished block makes no further passes.
    """

    name: ClassVar[str] = "low_confidence"
    source: ClassVar[str] = "ML-GSAI/LLaDA, arXiv 2502.09992"

    eos_last: bool = parameter(False, "a token that ends the text is revealed last")

    def draw(self, configured: DrawSettings) -> DrawSettings:
        return dataclasses.replace(super().draw(configured), ending=self.eos_last)

    def step(self, view: View) -> Move:
        confidence = view.proposal.confidence
        if self.eos_last:
            rest = jnp.maximum(1.0 - measured(view.proposal.ending), jnp.finfo(jnp.float32).tiny)
            confidence = jnp.where(view.ends, 0.0, confidence / rest)
        return Move(view.best(confidence, pass_quota(view)))
