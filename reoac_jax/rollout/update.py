"""The two update rules: what a selection does to the generated tokens (DESIGN.md, section 8).

Written for one row and `vmap`ped; `G` generated positions, `A` operators.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import TokenPrediction
from reoac_jax.policy.ranking import lowest
from reoac_jax.rollout.settings import RolloutSettings
from reoac_jax.rollout.types import Generated


class Update(NamedTuple):
    """generated: the row after the step. written, repaired: bool `[G]`, what the step did."""

    generated: Generated
    written: jax.Array
    repaired: jax.Array


def changeable(
    generated: Generated, step: jax.Array, settings: RolloutSettings
) -> tuple[jax.Array, jax.Array]:
    """Where an operator could change something.

    Returns:
      bool `[G]`, the positions a selection could act on at this step, and bool `[]`, whether the
      row is finished (never, under `overwrite`).
    """
    if settings.update_rule == "overwrite":
        return ~generated.fixed, jnp.zeros((), bool)
    masked = generated.tokens == settings.mask_id
    due = _repair_due(generated, step, settings)
    finished = ~masked.any() & ~due.any()
    return masked | due, finished


def revealed_positions(
    generated: Generated,
    proposal: TokenPrediction,
    selected: jax.Array,
    quota: jax.Array,
    threshold: jax.Array,
    step: jax.Array,
    settings: RolloutSettings,
) -> jax.Array:
    """bool `[G]`: the masked positions that `apply_update` reveals under `denoise`.

    Of the selected ones the `quota` most confident, and those of a confidence above `threshold`; in
    the last step all there are.
    """
    masked = generated.tokens == settings.mask_id
    last = step == settings.max_steps - 1
    candidates = masked & selected
    most_confident = lowest(-proposal.confidence, candidates, quota)
    # A confidence is at most 1, but for rounding: 1 is above nothing.
    sure = (proposal.confidence > threshold) & (threshold < 1.0)
    return jnp.where(last, masked, most_confident | candidates & sure)


def apply_update(
    generated: Generated,
    proposal: TokenPrediction,
    selected: jax.Array,
    quota: jax.Array,
    threshold: jax.Array,
    step: jax.Array,
    settings: RolloutSettings,
) -> Update:
    """One step of one row.

    Args:
      generated: the row, `[G]` each. proposal: the model's tokens there, `[G]` each.
      selected: bool `[G]`, the operator's positions.
      quota: int32 `[]`, tokens to reveal at least (`denoise`).
      threshold: float32 `[]`, confidence above which more are revealed (`denoise`).
      step: int32 `[]`, from 0.
    """
    nothing = jnp.zeros(settings.gen_len, bool)
    if settings.update_rule == "overwrite":
        rewritten = selected & ~generated.fixed
        return Update(_write(generated, proposal, rewritten), rewritten, nothing)

    masked = generated.tokens == settings.mask_id
    reveal = revealed_positions(generated, proposal, selected, quota, threshold, step, settings)
    revealed = _write(generated, proposal, reveal)
    if settings.repair_tokens == 0:
        return Update(revealed, reveal, nothing)

    due = _repair_due(generated, step, settings) & selected
    # Later steps of scale 1 can write this many more than what is masked already.
    room = settings.base_quota * (settings.max_steps - 1 - step) - (masked & ~reveal).sum()
    count = jnp.clip(room, 0, settings.repair_tokens)
    repair = lowest(generated.confidence, due, count)
    repaired = revealed._replace(
        tokens=jnp.where(repair, settings.mask_id, revealed.tokens),
        confidence=jnp.where(repair, 0.0, revealed.confidence),
        entropy=jnp.where(repair, 0.0, revealed.entropy),
    )
    return Update(repaired, reveal, repair)


def _repair_due(generated: Generated, step: jax.Array, settings: RolloutSettings) -> jax.Array:
    """bool `[G]`: revealed tokens that repair may take back at this step."""
    if settings.repair_tokens == 0:
        return jnp.zeros(settings.gen_len, bool)
    masked = generated.tokens == settings.mask_id
    room = settings.base_quota * (settings.max_steps - 1 - step) - masked.sum()
    repairable = ~masked & ~generated.fixed
    return repairable & (generated.confidence < settings.repair_threshold) & (room > 0)


def _write(generated: Generated, proposal: TokenPrediction, where: jax.Array) -> Generated:
    return generated._replace(
        tokens=jnp.where(where, proposal.token, generated.tokens),
        confidence=jnp.where(where, proposal.confidence, generated.confidence),
        entropy=jnp.where(where, proposal.entropy, generated.entropy),
    )
