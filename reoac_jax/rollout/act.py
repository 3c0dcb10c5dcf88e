"""What one step looks at and does: the observation, the pick of an operator, its action."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import Prediction, TokenPrediction
from reoac_jax.devices.streams import StepStream
from reoac_jax.policy.features import (
    PromptContext,
    alignment_features,
    extra_features,
    preview_features,
)
from reoac_jax.policy.observation import Observation
from reoac_jax.policy.operators import View, select_positions
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout.types import DenoiseFn, Generated, HeadsFn, Prompts, RolloutSettings
from reoac_jax.rollout.update import Update, apply_update, changeable, revealed_positions


class StepInputs(NamedTuple):
    """What does not change with the steps: the rows' `[B, ...]`, tables, functions."""

    prompts: Prompts
    contexts: PromptContext
    vocabulary: Vocabulary
    denoise: DenoiseFn
    heads: HeadsFn


def step_keys(keys: jax.Array, step: jax.Array) -> jax.Array:
    """The rows' keys `[B]` of their steps `[B]`: the same for a step and for a look-ahead to it."""
    return jax.vmap(jax.random.fold_in)(keys, step)


def observe(
    inputs: StepInputs,
    settings: RolloutSettings,
    generated: Generated,
    previous: jax.Array,
    prediction: Prediction,
    step: jax.Array,
) -> Observation[jax.Array]:
    """The actor's and critic's input, `[B, ...]` (DESIGN.md, section 6).

    Under `denoise` the entropy of a revealed token is that of the distribution it was drawn from:
    the backbone's logits at revealed positions were never trained. Under `overwrite` it is the
    present one, as in the original.
    """
    masked = generated.tokens == settings.mask_id
    entropy = prediction.tokens.entropy
    if settings.update_rule == "denoise":
        entropy = jnp.where(masked, entropy, generated.entropy)
    alignment = jax.vmap(alignment_features, (0, 0, 0, 0, 0, None, None))(
        inputs.contexts,
        generated.tokens,
        previous,
        step > 0,
        entropy,
        inputs.vocabulary,
        settings.relation_temperature,
    )
    progress = preview = None
    if settings.extra_features:
        progress = jax.vmap(extra_features, (0, 0, 0, 0, None))(
            step / jnp.float32(settings.max_steps),
            masked,
            prediction.tokens.confidence,
            prediction.tokens.entropy,
            inputs.vocabulary.text_id.shape[0],
        )
    if settings.operator_preview:
        preview = _preview(inputs, settings, generated, prediction.tokens, step)
    pooled = prediction.pooled if settings.use_hidden else None
    return Observation(alignment, pooled, progress, preview)


def _preview(
    inputs: StepInputs,
    settings: RolloutSettings,
    generated: Generated,
    proposals: TokenPrediction,
    step: jax.Array,
) -> jax.Array:
    quotas = jnp.asarray(settings.quotas)

    def one_row(row: Generated, proposal: TokenPrediction, step: jax.Array) -> jax.Array:
        selections = _selections(row, proposal, step, inputs.vocabulary, settings)
        reveals = selections & ~row.fixed
        if settings.update_rule == "denoise":
            reveals = jax.vmap(revealed_positions, (None, None, 0, 0, None, None))(
                row, proposal, selections, quotas, step, settings
            )
        written = row.tokens != settings.mask_id
        return preview_features(reveals, proposal.confidence, written, row.confidence)

    return jax.vmap(one_row)(generated, proposals, step)


def pick_operator(
    logits: jax.Array, keys: jax.Array, step: jax.Array, settings: RolloutSettings
) -> jax.Array:
    """int32 `[B]`: the actor's pick from its logits `[B, A]`."""
    if settings.selection_mode == "argmax":
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    pick_keys = jax.vmap(jax.random.fold_in, (0, None))(step_keys(keys, step), StepStream.PICK)
    return jax.vmap(jax.random.categorical)(pick_keys, logits).astype(jnp.int32)


class Action(NamedTuple):
    """operator: int32 `[B]`, that acted: the one asked for or the fallback. update: its effect."""

    operator: jax.Array
    update: Update


def act(
    generated: Generated,
    prediction: Prediction,
    operator: jax.Array,
    step: jax.Array,
    inputs: StepInputs,
    settings: RolloutSettings,
) -> Action:
    """Applies one operator to each row; operator, step: int32 `[B]`."""
    quotas = jnp.asarray(settings.quotas)

    def one_row(
        row: Generated, proposal: TokenPrediction, pick: jax.Array, step: jax.Array
    ) -> Action:
        selections = _selections(row, proposal, step, inputs.vocabulary, settings)
        if settings.ensure_update:
            open_positions, _ = changeable(row, step, settings)
            acts = (selections[pick] & open_positions).any()
            pick = jnp.where(acts, pick, settings.fallback_operator)
        update = apply_update(row, proposal, selections[pick], quotas[pick], step, settings)
        return Action(pick.astype(jnp.int32), update)

    return jax.vmap(one_row)(generated, prediction.tokens, operator, step)


def _selections(
    row: Generated,
    proposal: TokenPrediction,
    step: jax.Array,
    vocabulary: Vocabulary,
    settings: RolloutSettings,
) -> jax.Array:
    """bool `[A, G]`: what each operator selects in one row."""
    masked = row.tokens == settings.mask_id
    written, frontier = row.tokens, masked
    if settings.update_rule == "denoise":
        written = jnp.where(masked, proposal.token, row.tokens)
        open_positions, _ = changeable(row, step, settings)
        frontier = jnp.where(masked.any(), masked, open_positions & ~masked)
    view = View(written, frontier, proposal.confidence, vocabulary, settings.scope_anchor)
    return select_positions(view, settings.operators)
