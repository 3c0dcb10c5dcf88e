"""Running mean and variance of what the heads see, and inputs standardised by them.

They are part of the heads' parameters, and so of a checkpoint, but no gradient changes them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.policy.observation import Observation

_LEAST = 1e-3  # of a standard deviation: what has hardly varied so far says little by varying
_FARTHEST = 10.0  # of a standardised input: a rare value must not carry the whole head
_STANDARDISED = ("alignment", "progress", "preview", "notation")  # and of the rows their numbers
_MEMORY = 100  # batches after which the oldest begin to fade, for a backbone that is trained


class RunningStatistics(NamedTuple):
    """Of every channel `C_p` of each part `p` of an `Observation`.

    seen: float32 `[]`, observations, as far as they still weigh. mean, variance: float32
    `[C_p]` by part. Before anything was seen, 0, 0 and 1: standardising changes nothing but a
    value out of all proportion.
    """

    seen: jax.Array
    mean: dict[str, jax.Array]
    variance: dict[str, jax.Array]

    @classmethod
    def start(cls, example: Observation[jax.Array]) -> "RunningStatistics":
        """Those of nothing, for observations of the example's widths."""
        widths = {name: part.shape[-1] for name, part in _channels(example).items()}
        return cls(
            jnp.zeros((), jnp.float32),
            {name: jnp.zeros(width, jnp.float32) for name, width in widths.items()},
            {name: jnp.ones(width, jnp.float32) for name, width in widths.items()},
        )

    def updated(self, observation: Observation[jax.Array], real: jax.Array) -> "RunningStatistics":
        """With a batch more (Chan, Golub and LeVeque 1979, equation 2.1).

        What was seen before counts as `_MEMORY` batches of this size at most: from then on the mean
        is a moving one.

        Args:
          observation: `[N, ...]`. real: float32 `[N]`, 0 for padding.
        """
        size = real.sum()
        share = size / (self.seen + size)

        def mean_of(x: jax.Array) -> jax.Array:
            """float32 `[C]`: over the rows that count and, where there are any, their positions."""
            rows = x.reshape(x.shape[0], -1, x.shape[-1]).mean(axis=1)
            return (rows * real[:, None]).sum(axis=0) / size

        mean, variance = {}, {}
        for name, part in _channels(observation).items():
            new = mean_of(part)
            shift = new - self.mean[name]
            spread = mean_of(jnp.square(part - new))
            mean[name] = self.mean[name] + share * shift
            within = (1.0 - share) * self.variance[name] + share * spread
            variance[name] = within + share * (1.0 - share) * jnp.square(shift)
        seen = jnp.minimum(self.seen + size, _MEMORY * size)
        return RunningStatistics(seen, mean, variance)

    def standardise(self, observation: Observation[jax.Array]) -> Observation[jax.Array]:
        """The observation `[..., C_p]` in standard deviations from the mean, at most 10 of them."""

        def standard(name: str, x: jax.Array) -> jax.Array:
            deviation = jnp.maximum(jnp.sqrt(self.variance[name]), _LEAST)
            return jnp.clip((x - self.mean[name]) / deviation, -_FARTHEST, _FARTHEST)

        parts: Any = {name: standard(name, x) for name, x in _channels(observation).items()}
        rows = observation.rows
        if rows is not None:
            rows = rows._replace(
                hidden=parts.pop("hidden"),
                confidence=parts.pop("confidence")[..., 0],
                entropy=parts.pop("entropy")[..., 0],
            )
        return observation._replace(rows=rows, **parts)


def _channels(observation: Observation[Any]) -> dict[str, jax.Array]:
    """What is standardised, by name, channels last; the pooled state is layer-normed instead."""
    named = {name: getattr(observation, name) for name in _STANDARDISED}
    if (rows := observation.rows) is not None:
        named["hidden"] = rows.hidden
        named |= {"confidence": rows.confidence[..., None], "entropy": rows.entropy[..., None]}
    return {name: part.astype(jnp.float32) for name, part in named.items() if part is not None}
