"""A critic that is a copy of the backbone: it reads the row with its proposals filled in.

`G` generated positions, `D` the backbone's width, `A` operators.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.backbone.interface import Denoiser
from reoac_jax.backbone.noise import noise_level
from reoac_jax.backbone.prediction import assemble_rows
from reoac_jax.policy.observation import Observation


class ValueHead(nn.Module):
    """From states `[B, G, D]` to one number for each operator, float32 `[B, A]`.

    Of the layer-normed states mean and maximum over the positions, side by side; then one linear
    layer, small at first, so that the first Q is near 0.
    """

    operators: int

    if TYPE_CHECKING:  # Flax declares a union with the state that `mutable` would return too

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        x = nn.LayerNorm(use_bias=False, use_scale=False)(states)
        pooled = jnp.concatenate([x.mean(axis=1), x.max(axis=1)], axis=-1)
        small = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return nn.Dense(self.operators, kernel_init=small)(pooled)


@dataclasses.dataclass(frozen=True)
class BackboneCritic:
    """The critic of `heads.critic` "backbone": one forward pass of its own a step.

    Its parameters are `{"backbone": Flax collections of the copy, "value": the head's}`. It sees of
    an observation the part `filled` alone. A model that sees the noise level is told that of a row
    without masks.

    model: the backbone, without dropout. operators: A. gen_len: G. pad_id: behind a row's end.
    """

    model: Denoiser
    operators: int
    gen_len: int
    pad_id: int

    def init(self, key: jax.Array) -> Any:
        """Random parameters of the head."""
        states = jax.ShapeDtypeStruct((1, self.gen_len, self.model.spec.hidden_dim), jnp.float32)
        return ValueHead(self.operators).lazy_init(key, states)["params"]

    def apply(self, variables: dict[str, Any], observation: Observation[jax.Array]) -> jax.Array:
        """Q, float32 `[B, A]`, of an observation `[B, ...]`. variables: `{"params": ...}`."""
        params, seen, model = variables["params"], observation.filled, self.model
        assert seen is not None and seen.prompt is not None and seen.prompt_length is not None
        rows, lengths = assemble_rows(seen.prompt, seen.prompt_length, seen.token, self.pad_id)
        sigma = noise_level(jnp.zeros(lengths.shape)) if model.spec.sees_time else None
        prepared = model.prepare(params["backbone"], sigma)
        hidden = model.hidden(params["backbone"], rows, lengths, prepared)
        states = model.generated(hidden, seen.prompt_length, self.gen_len)
        return ValueHead(self.operators).apply({"params": params["value"]}, states)
