"""What an actor's logits say: which of the operators, or which of the positions, a step takes."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

_OUT_OF_REACH = -1e9  # the least of logits and Q: no float32 of either comes near it


def among_legal(values: jax.Array, legal: jax.Array) -> jax.Array:
    """Logits or Q of operators, out of reach where one may not be chosen.

    A softmax of the result is exactly 0 there, and a maximum is never there; where every operator
    may be chosen the result is `values`. Finite, so that 0 times its logarithm is 0.

    Args:
      values: float32 `[..., A]`. legal: bool `[..., A]`, at least one True.
    """
    return jnp.where(legal, values, _OUT_OF_REACH)


@dataclasses.dataclass(frozen=True)
class Distribution(abc.ABC):
    """An actor's distributions over what it may choose, `N` of them, or `[...]`.

    logits: float32 `[N, C]`. legal: bool `[N, C]`, what may be chosen.
    name: (of the class) as `heads.policy` has it.
    """

    name: ClassVar[str]

    logits: jax.Array
    legal: jax.Array

    @abc.abstractmethod
    def log_prob(self, chosen: jax.Array) -> jax.Array:
        """float32 `[N]`: of what was chosen."""

    @abc.abstractmethod
    def entropy(self) -> jax.Array:
        """float32 `[N]`, nats."""

    @abc.abstractmethod
    def draw(self, keys: jax.Array) -> jax.Array:
        """A choice of each, by its key `[N]`."""

    @abc.abstractmethod
    def best(self) -> jax.Array:
        """The most probable choice of each."""


class OneOperator(Distribution):
    """A softmax over A operators, of which at least one is legal; a choice is int32 `[N]`."""

    name: ClassVar[str] = "operators"

    @property
    def log_probs(self) -> jax.Array:
        """float32 `[N, A]`."""
        return jax.nn.log_softmax(among_legal(self.logits, self.legal), axis=-1)

    def value(self, q: jax.Array) -> jax.Array:
        """float32 `[N]`: V(s) = sum_a pi(a|s) Q(s, a). q: float32 `[N, A]`."""
        return (jnp.exp(self.log_probs) * q).sum(axis=-1)

    def log_prob(self, chosen: jax.Array) -> jax.Array:
        return jnp.take_along_axis(self.log_probs, chosen[..., None], axis=-1)[..., 0]

    def entropy(self) -> jax.Array:
        log_probs = self.log_probs
        return -(jnp.exp(log_probs) * log_probs).sum(axis=-1)

    def draw(self, keys: jax.Array) -> jax.Array:
        logits = among_legal(self.logits, self.legal)
        return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

    def best(self) -> jax.Array:
        return jnp.argmax(among_legal(self.logits, self.legal), axis=-1).astype(jnp.int32)


class AnyPositions(Distribution):
    """A Bernoulli for each of the legal of G positions, independent; a choice is bool `[N, G]`.

    (Jazbec et al. 2025, arXiv 2512.09106, section 3.) Nothing is known of the other positions, and
    none of them is chosen.
    """

    name: ClassVar[str] = "positions"

    def log_prob(self, chosen: jax.Array) -> jax.Array:
        each = jax.nn.log_sigmoid(jnp.where(chosen, self.logits, -self.logits))
        return jnp.where(self.legal, each, 0.0).sum(axis=-1)

    def entropy(self) -> jax.Array:
        # -p log p - (1 - p) log (1 - p), where log (1 - p) = log p - logit.
        each = jax.nn.sigmoid(-self.logits) * self.logits - jax.nn.log_sigmoid(self.logits)
        return jnp.where(self.legal, each, 0.0).sum(axis=-1)

    def draw(self, keys: jax.Array) -> jax.Array:
        size = self.logits.shape[-1:]
        uniforms = jax.vmap(lambda key: jax.random.uniform(key, size))(keys)
        return self.legal & (uniforms < jax.nn.sigmoid(self.logits))

    def best(self) -> jax.Array:
        return self.legal & (self.logits > 0)


DISTRIBUTIONS: Mapping[str, type[Distribution]] = {
    kind.name: kind for kind in (OneOperator, AnyPositions)
}
