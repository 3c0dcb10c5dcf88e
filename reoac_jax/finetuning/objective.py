"""MDLM's objective on answers given their prompts (Sahoo et al. 2024, arXiv 2406.07524, eq. 10).

With the log-linear schedule each answer token is masked with probability t, independently, and

    NELBO(x) = E_{t ~ U(0, 1]}  1/t  sum_{l masked} -log p(x_l | z_t)  >=  -log p(x)

where p is the SUBS distribution and the prompt is never masked. Everything here is pure. `B` rows,
`P` prompt tokens at most, `G` answer positions.
"""

from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import assemble_rows
from reoac_jax.devices.arrays import ArrayT

_LEAST_TIME = 1e-3  # MDLM's `sampling_eps`


class Answers(NamedTuple, Generic[ArrayT]):
    """prompt: int32 `[B, P]`, right-padded. prompt_length: int32 `[B]`, may be 0.

    answer: int32 `[B, G]`, ended and padded with eos. kept: int32 `[B]`, how many of its positions
    the row has; those after them are neither masked nor seen.
    """

    prompt: ArrayT
    prompt_length: ArrayT
    answer: ArrayT
    kept: ArrayT


class Noised(NamedTuple):
    """rows: int32 `[B, P + G]`. lengths: int32 `[B]`. masked: bool `[B, G]`, answer positions."""

    rows: jax.Array
    lengths: jax.Array
    masked: jax.Array


def antithetic_times(key: jax.Array, batch: int) -> jax.Array:
    """float32 `[B]`: a uniform draw from each of B equal parts of (1e-3, 1], in ascending order.

    The floor is MDLM's: the loss is divided by t.
    """
    # (j - u) / B with u in [0, 1) covers (0, 1].
    t = (jnp.arange(1, batch + 1) - jax.random.uniform(key, (batch,))) / batch
    return _LEAST_TIME + (1.0 - _LEAST_TIME) * t


def own_lengths(answer: jax.Array, eos_id: int) -> jax.Array:
    """int32 `[B]`: tokens of each answer with its first eos; G where it has none."""
    is_eos = answer == eos_id
    return jnp.where(is_eos.any(axis=1), is_eos.argmax(axis=1) + 1, answer.shape[1])


def token_weights(answers: Answers, eos_id: int, eos_weight: float) -> jax.Array:
    """float32 `[B, G]`: 1 up to an answer's first eos, `eos_weight` after it, 0 where no row is."""
    position = jnp.arange(answers.answer.shape[1])
    own = position < own_lengths(answers.answer, eos_id)[:, None]
    present = position < answers.kept[:, None]
    return jnp.where(present, jnp.where(own, 1.0, eos_weight), 0.0)


def add_noise(
    answers: Answers, t: jax.Array, uniforms: jax.Array, mask_id: int, pad_id: int
) -> Noised:
    """Masks each present answer position with probability t.

    Args:
      t: float32 `[B]` in (0, 1]. uniforms: float32 `[B, G]` in [0, 1).
    """
    present = jnp.arange(answers.answer.shape[1]) < answers.kept[:, None]
    masked = (uniforms < t[:, None]) & present
    noised = jnp.where(masked, mask_id, answers.answer)
    rows, _ = assemble_rows(answers.prompt, answers.prompt_length, noised, pad_id)
    return Noised(rows, answers.prompt_length + answers.kept, masked)


def denoising_nats(
    log_probs: jax.Array, masked: jax.Array, t: jax.Array, weight: jax.Array
) -> jax.Array:
    """float32 `[B]`: weight/t times -log p, summed over a row's masked positions.

    Its expectation over t and masks is the row's NELBO in nats, where every weight is 1.

    Args:
      log_probs: float32 `[B, G]`, of the answer's tokens. masked: bool `[B, G]`. t: float32 `[B]`.
      weight: float32 `[B, G]`.
    """
    return jnp.where(masked, -log_probs * weight, 0.0).sum(axis=1) / t
