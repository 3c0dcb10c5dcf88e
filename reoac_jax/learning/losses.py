"""The three losses (DESIGN.md, section 10), each a pure function of arrays.

`N` transitions, `A` operators, `G` generated positions. `weight` is 1 for a transition that counts
and 0 for padding; every mean is over the ones that count.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def critic_loss(
    q: jax.Array, operator: jax.Array, returns: jax.Array, weight: jax.Array
) -> jax.Array:
    """mean (Q(s, a) - G)^2 of the operators that were charged.

    Args:
      q: float32 `[N, A]`. operator: int32 `[N]`. returns, weight: float32 `[N]`.
    """
    taken = jnp.take_along_axis(q, operator[:, None], axis=-1)[:, 0]
    return _mean(jnp.square(taken - returns), weight)


def soft_q_loss(
    logits: jax.Array, q: jax.Array, temperature: float, weight: jax.Array
) -> jax.Array:
    """Cross-entropy of the actor to softmax(Q / temperature), Q detached: the original's objective.

    Args:
      logits, q: float32 `[N, A]`. temperature: `actor_temperature`. weight: float32 `[N]`.
    """
    target = jax.nn.softmax(jax.lax.stop_gradient(q) / temperature)
    return _mean(-(target * jax.nn.log_softmax(logits)).sum(axis=-1), weight)


class PolicyGradient(NamedTuple):
    """loss: clipped surrogate minus the entropy term. entropy: of the policy, nats."""

    loss: jax.Array
    entropy: jax.Array


def policy_gradient_loss(
    logits: jax.Array,
    chosen: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    clip_ratio: float,
    entropy_weight: float,
    weight: jax.Array,
) -> PolicyGradient:
    """-mean min(r A, clip(r, 1 +- clip_ratio) A) - entropy_weight * H (PPO).

    (Schulman et al. 2017, arXiv 1707.06347, equation 7.)

    Args:
      logits: float32 `[N, A]`, now. chosen: int32 `[N]`, the actor's picks.
      old_log_prob: float32 `[N]`, of those picks when they were made; r = exp(new - old).
      advantage: float32 `[N]`. weight: float32 `[N]`.
    """
    log_probs = jax.nn.log_softmax(logits)
    new = jnp.take_along_axis(log_probs, chosen[:, None], axis=-1)[:, 0]
    ratio = jnp.exp(new - old_log_prob)
    clipped = jnp.clip(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    surrogate = jnp.minimum(ratio * advantage, clipped * advantage)
    entropy = _mean(-(jnp.exp(log_probs) * log_probs).sum(axis=-1), weight)
    return PolicyGradient(-_mean(surrogate, weight) - entropy_weight * entropy, entropy)


def backbone_advantage(advantage: jax.Array, positive: bool, clip: float) -> jax.Array:
    """The backbone's advantage, floored at 0 if `positive`, within +-`clip` if `clip` > 0.

    advantage: float32 `[N]`, the return G (the original's) or relative to the prompt's others.
    """
    advantage = jnp.maximum(advantage, 0.0) if positive else advantage
    return jnp.clip(advantage, -clip, clip) if clip > 0 else advantage


def position_shares(written: jax.Array, weight: jax.Array) -> jax.Array:
    """float32 `[N, G]`: each position's share in the mean over all written ones; they sum to 1.

    Args:
      written: bool `[N, G]`. weight: float32 `[N]`.
    """
    counts = written * weight[:, None]
    return counts / jnp.maximum(counts.sum(), 1.0)


def backbone_loss(log_probs: jax.Array, advantage: jax.Array, share: jax.Array) -> jax.Array:
    """Advantage-weighted cross-entropy to the target, averaged over the written positions.

    The losses of a batch's parts add up to its own, where `share` is that of the whole batch.

    Args:
      log_probs: float32 `[N, G]`, of the target tokens. advantage: float32 `[N]`.
      share: float32 `[N, G]`, from `position_shares`.
    """
    return -(log_probs * advantage[:, None] * share).sum()


def group_advantage(returns: jax.Array, groups: jax.Array) -> jax.Array:
    """Each episode's return less its group's mean, over the standard deviation of all of these.

    (Shao et al. 2024, arXiv 2402.03300, section 4.1, but with one scale for the batch: a group in
    which nothing but the costs differs is not blown up to the size of one that holds a success.)

    Args:
      returns: float32 `[E]`. groups: int32 `[E]` in [0, E), equal for episodes of one prompt.
    """
    size = returns.shape[0]
    count = jax.ops.segment_sum(jnp.ones_like(returns), groups, size)
    mean = jax.ops.segment_sum(returns, groups, size) / jnp.maximum(count, 1.0)
    centred = returns - mean[groups]
    return centred / (jnp.sqrt(jnp.square(centred).mean()) + 1e-6)


def critic_advantage(
    values: jax.Array, active: jax.Array, returns: jax.Array, decay: float
) -> jax.Array:
    """Each step's share in an episode's return, by the critic: generalised advantage estimation.

    delta_t = V(s_t+1) - V(s_t), where the return G stands for the value behind the last step, and
    A_t = delta_t + decay * A_t+1; over the root mean square of all of these. With decay 1, A_t is
    G - V(s_t), unbiased; a smaller one trusts the critic more. (Schulman et al. 2016, arXiv
    1506.02438, equation 16, with discount 1 and the whole return at the end: the critic regresses
    whole returns as well.)

    Args:
      values: float32 `[E, T]`, of the states under the policy. active: bool `[E, T]`, True up to
        each episode's last step. returns: float32 `[E]`.

    Returns:
      float32 `[E, T]`, 0 where not active.
    """
    later = jnp.concatenate([values[:, 1:], returns[:, None]], axis=1)
    goes_on = jnp.concatenate([active[:, 1:], jnp.zeros_like(active[:, :1])], axis=1)
    delta = jnp.where(active, jnp.where(goes_on, later, returns[:, None]) - values, 0.0)

    def back(after: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
        advantage = now + decay * after
        return advantage, advantage

    _, advantage = jax.lax.scan(back, jnp.zeros_like(returns), delta.T, reverse=True)
    advantage = jnp.where(active, advantage.T, 0.0)
    scale = jnp.sqrt(jnp.square(advantage).sum() / jnp.maximum(active.sum(), 1))
    return advantage / (scale + 1e-6)


def _mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    weight = weight.astype(jnp.float32)
    return (values * weight).sum() / jnp.maximum(weight.sum(), 1.0)
