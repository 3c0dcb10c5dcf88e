"""Actor and critic: two small MLPs over the same observation (DESIGN.md, sections 1 and 6)."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.policy.features import EXTRA_FEATURES, FEATURES, PREVIEW_FEATURES
from reoac_jax.policy.operators import OPERATORS


class HeadOutput(NamedTuple):
    """logits: float32 `[B, A]`, the actor's. q: float32 `[B, A]`, the critic's."""

    logits: jax.Array
    q: jax.Array


class HeadParams(NamedTuple):
    """Flax parameters of the actor and of the critic."""

    actor: Any
    critic: Any


class Head(nn.Module):
    """MLP from an observation `[B, F]` to one number for each operator, float32 `[B, A]`.

    hidden: widths of the hidden layers.
    pooled: first and last-plus-one column of the pooled hidden state, which is layer-normed here:
      its scale depends on the backbone's depth, the other columns are of order one.
    """

    hidden: Sequence[int]
    pooled: tuple[int, int]

    if TYPE_CHECKING:  # Flax declares a union with the state that `mutable` would return too

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        before, pooled, after = jnp.split(observation.astype(jnp.float32), self.pooled, axis=-1)
        if self.pooled[0] < self.pooled[1]:
            pooled = nn.LayerNorm(use_bias=False, use_scale=False)(pooled)
        x = jnp.concatenate([before, pooled, after], axis=-1)
        for width in self.hidden:
            x = nn.silu(nn.Dense(width)(x))
        # A small last layer: the first policy is near uniform and the first Q near 0.
        last = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return nn.Dense(len(OPERATORS), kernel_init=last)(x)


class AppliesHeads(Protocol):
    """Whatever turns observations `[B, F]` at steps int32 `[B]` into the heads' outputs."""

    def apply(self, params: Any, observation: jax.Array, step: jax.Array) -> HeadOutput: ...


@dataclasses.dataclass(frozen=True)
class Heads:
    """The two modules that go with a `HeadParams`, and what they see.

    later_features: names of the columns behind the pooled state. observation_dim: the width F.
    """

    actor: Head
    critic: Head
    later_features: tuple[str, ...]
    observation_dim: int

    @classmethod
    def create(
        cls,
        actor_hidden: Sequence[int],
        critic_hidden: Sequence[int],
        hidden_dim: int,
        use_hidden: bool,
        use_extra: bool,
        use_preview: bool,
    ) -> "Heads":
        """Heads for an observation of 11 features, and where they are switched on the pooled state
        [D], the extra features and the operators' preview, in this order."""
        pooled = (len(FEATURES), len(FEATURES) + use_hidden * hidden_dim)
        later = use_extra * EXTRA_FEATURES + use_preview * PREVIEW_FEATURES
        return cls(
            actor=Head(tuple(actor_hidden), pooled),
            critic=Head(tuple(critic_hidden), pooled),
            later_features=later,
            observation_dim=pooled[1] + len(later),
        )

    @property
    def named_columns(self) -> dict[str, int]:
        """Column of each feature that has a name: all but the pooled hidden state."""
        before, after = self.actor.pooled
        columns = (*range(before), *range(after, self.observation_dim))
        return dict(zip((*FEATURES, *self.later_features), columns, strict=True))

    def init(self, key: jax.Array) -> HeadParams:
        """Random parameters."""
        actor_key, critic_key = jax.random.split(key)
        example = jnp.zeros((1, self.observation_dim), jnp.float32)
        return HeadParams(
            self.actor.init(actor_key, example)["params"],
            self.critic.init(critic_key, example)["params"],
        )

    def apply(
        self, params: HeadParams, observation: jax.Array, step: jax.Array | None = None
    ) -> HeadOutput:
        """Both heads on observations `[B, F]`; they read no step but what is observed of it."""
        return HeadOutput(
            self.actor.apply({"params": params.actor}, observation),
            self.critic.apply({"params": params.critic}, observation),
        )
