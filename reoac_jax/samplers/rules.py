"""In which order the usual samplers reveal masked positions. One row each; `G` positions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import TokenPrediction
from reoac_jax.policy.ranking import lowest


class View(NamedTuple):
    """What a rule sees of one row at one step.

    masked: bool `[G]`. prediction: the model's proposal, `[G]` each.
    steps_left: int32 `[]`, this step included. key: PRNG key of the row and step.
    block_len: positions of a semi-autoregressive block.
    """

    masked: jax.Array
    prediction: TokenPrediction
    steps_left: jax.Array
    key: jax.Array
    block_len: int


# View of one row to the positions it reveals, bool [G], all of them masked.
Rule = Callable[[View], jax.Array]


def ancestral(view: View) -> jax.Array:
    """MDLM's own: from time t to s each masked position is revealed with chance (t - s) / t.

    With T equal steps that is 1 / steps_left (Sahoo et al. 2024, arXiv 2406.07524, equation 6 with
    the log-linear schedule).
    """
    chance = 1.0 / view.steps_left
    return view.masked & (jax.random.uniform(view.key, view.masked.shape) < chance)


def confidence(view: View) -> jax.Array:
    """The positions whose proposed token is the most probable (MaskGIT, arXiv 2202.04200)."""
    return _first(view, -view.prediction.confidence)


def margin(view: View) -> jax.Array:
    """The largest gap between the two most probable tokens (Kim et al. 2025, arXiv 2502.06768)."""
    return _first(view, -view.prediction.margin)


def entropy(view: View) -> jax.Array:
    """The lowest entropy of the token distribution."""
    return _first(view, view.prediction.entropy)


def left_to_right(view: View) -> jax.Array:
    """In reading order."""
    return _first(view, jnp.arange(view.masked.shape[0]))


def blocks(view: View) -> jax.Array:
    """Semi-autoregressive: blocks in reading order, by confidence within (arXiv 2503.09573)."""
    block = jnp.arange(view.masked.shape[0]) // view.block_len
    return _first(view, 2.0 * block - view.prediction.confidence)


def _first(view: View, priority: jax.Array) -> jax.Array:
    """The masked / steps_left masked positions, rounded up, of lowest priority value."""
    quota = -(-view.masked.sum() // view.steps_left)
    return lowest(priority, view.masked, quota)


RULES: dict[str, Rule] = {
    "ancestral": ancestral,
    "ancestral_cached": ancestral,
    "confidence": confidence,
    "margin": margin,
    "entropy": entropy,
    "left_to_right": left_to_right,
    "blocks": blocks,
}
