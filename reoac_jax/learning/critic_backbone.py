"""The weights of a critic that is a backbone: how they start, and as they are applied.

Trained they are `{"backbone": weights as the `Trainable` has them, "value": the head's}`; applied,
Flax collections stand in the place of the weights. Where the critic is a head of its own, `kind` is
None and nothing changes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from reoac_jax.learning.trainable import Trainable
from reoac_jax.policy.heads import HeadParams


def start_critic(
    kind: Trainable | None,
    heads: HeadParams,
    key: jax.Array,
    base: Any,
    default_targets: Sequence[str],
) -> HeadParams:
    """The heads with the critic's weights: a copy of the base, or an overlay that changes nothing.

    default_targets: as in `Trainable.init`.
    """
    if kind is None:
        return heads
    own = base if kind.keeps_base else jax.tree.map(jnp.copy, base)
    weights = kind.init(key, own, default_targets)
    return heads._replace(critic={"backbone": weights, **heads.critic})


def applied_critic(kind: Trainable | None, base: Any, critic: Any) -> Any:
    """A critic's parameters as its module takes them in an update."""
    if kind is None:
        return critic
    return {**critic, "backbone": kind.variables(base, critic["backbone"])}


def rollout_critic(
    kind: Trainable | None, base: Any, heads: HeadParams, finish: Callable[[Any], Any]
) -> HeadParams:
    """The heads for rollouts, an overlay of the critic merged in. finish: as in
    `Trainable.merged`.
    """
    if kind is None:
        return heads
    merged = kind.merged(base, heads.critic["backbone"], finish)
    return heads._replace(critic={**heads.critic, "backbone": {"params": merged}})
