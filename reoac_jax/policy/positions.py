"""An actor over positions: for each masked one whether it is revealed now.

(Jazbec et al. 2025, "Learning Unmasking Policies for Diffusion Language Models", arXiv 2512.09106.)
`G` generated positions, `W` the block's width.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.policy.observation import Observation
from reoac_jax.policy.rows import Attention, RowEncoder, RowSizes

LEFT, NUMBERS = "left", "numbers"  # the orders in which `start_decay` has positions written
_NEAREST = 1e-4  # of a confidence to 0 and to 1, where its odds are taken


@dataclasses.dataclass(frozen=True)
class PositionSizes:
    """gen_len: G. The rest is as in the section `heads.positions`."""

    gen_len: int
    width: int
    mlp_width: int
    attention_heads: int
    start: float
    start_decay: float = 0.0
    start_order: str = LEFT

    @property
    def sees_numbers(self) -> bool:
        """Whether an observation says of each position that its token is a number."""
        return self.start_order == NUMBERS


class PositionActor(nn.Module):
    """From an `Observation` `[B, ...]` with `positions` to logits, float32 `[B, G]`.

    A position is what the model knows of it: the confidence of its token, as it is and as log odds,
    which spread out what lies near 1, whether it is masked, and in the order `numbers` whether that
    token is a number; where it stands; and what the observation has of the row's progress and of
    the task's notation, the same for all of them. Of the text it sees nothing but this, unless it
    reads rows: then each position, encoded, is added.
    One block of attention and a two-layer MLP follow, each on a layer-normed input and added to it,
    and a logit of each position. At first every masked position has about the same chance, `start`;
    with a `start_decay` in an order: what is subtracted from a logit for each masked position that
    comes before it, which is learned, too. In the order `left` those are the ones to its left, in
    the order `numbers` the numbers of more confidence, and for what is no number all of them.

    rows: sizes of the encoder of rows, where they are read.
    """

    sizes: PositionSizes
    rows: RowSizes | None = None

    if TYPE_CHECKING:  # Flax declares a union with the state that `mutable` would return too

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    @nn.compact
    def __call__(self, observation: Observation[jax.Array]) -> jax.Array:
        sizes, width = self.sizes, self.sizes.width
        assert observation.positions is not None
        confidence, masked, *number = jnp.moveaxis(observation.positions, -1, 0)
        within = jnp.clip(confidence, _NEAREST, 1.0 - _NEAREST)
        odds = jnp.log(within) - jnp.log1p(-within)
        seen = jnp.stack([confidence, odds / 5.0, masked, *number], axis=-1)  # all of order one
        x = nn.Dense(width, name="seen")(seen)
        x += self.param("place", nn.initializers.normal(0.02), (sizes.gen_len, width))
        for name in ("progress", "notation"):
            if (part := getattr(observation, name)) is not None:
                x += nn.Dense(width, name=name)(part)[:, None]
        if self.rows is not None:
            assert observation.rows is not None
            encoded = RowEncoder(self.rows, name="encoder")(observation.rows)
            x += nn.Dense(width, name="rows")(encoded)
        x += Attention(sizes.attention_heads, name="attention")(nn.LayerNorm()(x))
        inner = nn.silu(nn.Dense(sizes.mlp_width, name="mlp_in")(nn.LayerNorm()(x)))
        x += nn.Dense(width, name="mlp_out")(inner)
        small = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        chance = nn.initializers.constant(math.log(sizes.start / (1.0 - sizes.start)))
        last = nn.Dense(1, kernel_init=small, bias_init=chance, name="logit")
        logits = last(nn.LayerNorm()(x))[..., 0]
        if sizes.start_decay:
            decay = self.param("decay", nn.initializers.constant(sizes.start_decay), ())
            logits -= decay * _masked_before(masked, confidence, *number)
        return logits


def _masked_before(
    masked: jax.Array, confidence: jax.Array, number: jax.Array | None = None
) -> jax.Array:
    """float32 `[B, G]`: how many masked positions come before each in the order of the start.

    masked, number: 0 or 1; without numbers the order is from left to right, and so it is of numbers
    that are equally sure. All float32 `[B, G]`.
    """
    if number is None:
        return jnp.cumsum(masked, axis=-1) - masked
    first, places = masked * number, jnp.arange(masked.shape[-1])
    one, other = confidence[..., :, None], confidence[..., None, :]
    surer = (one > other) | (one == other) & (places[:, None] < places)
    among = jnp.einsum("...i,...ij->...j", first, surer.astype(jnp.float32))
    return jnp.where(number > 0, among, first.sum(axis=-1, keepdims=True))
