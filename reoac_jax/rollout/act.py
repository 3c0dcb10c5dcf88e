"""What one step looks at and does: the observation, the pick of an operator, its action."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import TokenPrediction
from reoac_jax.backbone.prediction import Prediction
from reoac_jax.devices.streams import StepStream
from reoac_jax.policy.distributions import Distribution
from reoac_jax.policy.features import (
    PromptContext,
    alignment_features,
    extra_features,
    preview_features,
)
from reoac_jax.policy.notation import notation_features
from reoac_jax.policy.observation import FilledRows, Observation, PositionRows
from reoac_jax.policy.operators import View, select_positions
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout.settings import RolloutSettings
from reoac_jax.rollout.types import DenoiseFn, Generated, HeadsFn, Prompts
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


class Choices(NamedTuple):
    """What the operators could do to the rows at a step.

    selected: bool `[B, A, G]`, the positions of each. legal: bool `[B, A]`, which may be chosen; at
    least one.
    """

    selected: jax.Array
    legal: jax.Array


def choices_at(
    generated: Generated,
    prediction: Prediction,
    step: jax.Array,
    inputs: StepInputs,
    settings: RolloutSettings,
) -> Choices:
    """What may be chosen at a step, int32 `[B]` (DESIGN.md, section 7).

    With `empty_operator` "mask" an operator that can change nothing may not be chosen, unless none
    can change anything. In the last step of `denoise` everything is revealed whatever is chosen: it
    is the cheapest operator's.
    """
    count = len(settings.operators)

    def one_row(row: Generated, proposal: TokenPrediction, step: jax.Array) -> Choices:
        selected = _selections(row, proposal, step, inputs.vocabulary, settings)
        legal = jnp.ones(count, bool)
        if settings.empty_operator == "mask":
            open_positions, _ = changeable(row, step, settings)
            acts = (selected & open_positions).any(axis=1)
            legal = acts | ~acts.any()
        only = jnp.arange(count) == settings.cheapest
        return Choices(selected, jnp.where(settings.is_forced(step), only, legal))

    return jax.vmap(one_row)(generated, prediction.tokens, step)


def observe(
    inputs: StepInputs,
    settings: RolloutSettings,
    generated: Generated,
    previous: jax.Array,
    prediction: Prediction,
    step: jax.Array,
    choices: Choices | None,
) -> Observation[jax.Array]:
    """The actor's and critic's input, `[B, ...]` (DESIGN.md, section 6).

    choices: what the operators could do; None where positions are chosen.

    Under `denoise` the entropy of a revealed token is that of the distribution it was drawn from:
    the backbone's logits at revealed positions were never trained. Under `overwrite` it is the
    present one, as in the original.
    """
    masked = generated.tokens == settings.mask_id
    tokens = jnp.where(masked, prediction.tokens.token, generated.tokens)
    entropy = prediction.tokens.entropy
    if settings.update_rule == "denoise":
        entropy = jnp.where(masked, entropy, generated.entropy)
    alignment = positions = None
    if settings.positions:
        confidence = jnp.where(masked, prediction.tokens.confidence, generated.confidence)
        seen = [confidence, masked.astype(jnp.float32)]
        if settings.numbers:
            seen.append(inputs.vocabulary.has_digit[tokens].astype(jnp.float32))
        positions = jnp.stack(seen, axis=-1)
    else:
        alignment = jax.vmap(alignment_features, (0, 0, 0, 0, 0, None, None))(
            inputs.contexts,
            generated.tokens,
            previous,
            step > 0,
            entropy,
            inputs.vocabulary,
            settings.relation_temperature,
        )
    progress = progress_at(generated, prediction, step, inputs.vocabulary, settings)
    preview = None
    if settings.operator_preview:
        assert choices is not None
        preview = _preview(settings, generated, prediction.tokens, step, choices)
    pooled = prediction.pooled if settings.use_hidden else None
    rows = _positions(settings, generated, prediction, tokens) if settings.rows else None
    filled = None
    if settings.filled:
        filled = FilledRows(tokens, inputs.prompts.tokens, inputs.prompts.lengths)
    notation = None
    if settings.notation is not None:
        assert inputs.contexts.given is not None and inputs.vocabulary.symbols is not None
        notation = jax.vmap(notation_features, (0, 0, 0, None, None))(
            generated.tokens,
            tokens,
            inputs.contexts.given,
            inputs.vocabulary.symbols,
            settings.notation,
        )
    return Observation(alignment, pooled, progress, preview, rows, positions, notation, filled)


def progress_at(
    generated: Generated,
    prediction: Prediction,
    step: jax.Array,
    vocabulary: Vocabulary,
    settings: RolloutSettings,
) -> jax.Array | None:
    """The part `progress` of an observation; None where it is switched off."""
    if not settings.extra_features:
        return None
    return jax.vmap(extra_features, (0, 0, 0, 0, None))(
        step / jnp.float32(settings.max_steps),
        generated.tokens == settings.mask_id,
        prediction.tokens.confidence,
        prediction.tokens.entropy,
        vocabulary.text_id.shape[0],
    )


def _positions(
    settings: RolloutSettings, generated: Generated, prediction: Prediction, tokens: jax.Array
) -> PositionRows[jax.Array]:
    """`[B, G]`: the rows as they would be if they were filled in now, with these tokens."""
    proposal, masked = prediction.tokens, generated.tokens == settings.mask_id
    confidence, entropy = proposal.confidence, proposal.entropy
    if settings.update_rule == "denoise":
        confidence = jnp.where(masked, confidence, generated.confidence)
        entropy = jnp.where(masked, entropy, generated.entropy)
    assert prediction.states is not None
    return PositionRows(
        token=tokens,
        confidence=confidence,
        entropy=entropy,
        masked=masked,
        hidden=prediction.states.hidden,
    )


def _preview(
    settings: RolloutSettings,
    generated: Generated,
    proposals: TokenPrediction,
    step: jax.Array,
    choices: Choices,
) -> jax.Array:
    quotas, thresholds = jnp.asarray(settings.quotas), jnp.asarray(settings.thresholds)

    def one_row(
        row: Generated, proposal: TokenPrediction, step: jax.Array, selected: jax.Array
    ) -> jax.Array:
        reveals = selected & ~row.fixed
        if settings.update_rule == "denoise":
            reveals = jax.vmap(revealed_positions, (None, None, 0, 0, 0, None, None))(
                row, proposal, selected, quotas, thresholds, step, settings
            )
        written = row.tokens != settings.mask_id
        return preview_features(reveals, proposal.confidence, written, row.confidence)

    return jax.vmap(one_row)(generated, proposals, step, choices.selected)


def pick(
    policy: Distribution, keys: jax.Array, step: jax.Array, settings: RolloutSettings
) -> jax.Array:
    """`[B, ...]`: what the actor chooses at these steps, by the rows' keys `[B]`."""
    if settings.selection_mode == "argmax":
        return policy.best()
    pick_keys = jax.vmap(jax.random.fold_in, (0, None))(step_keys(keys, step), StepStream.PICK)
    return policy.draw(pick_keys)


class Action(NamedTuple):
    """operator: int32 `[B]`, that acted: the one asked for or the fallback. update: its effect."""

    operator: jax.Array
    update: Update


def act(
    generated: Generated,
    prediction: Prediction,
    operator: jax.Array,
    step: jax.Array,
    selected: jax.Array,
    settings: RolloutSettings,
) -> Action:
    """Applies one operator to each row.

    operator, step: int32 `[B]`. selected: bool `[B, A, G]`, the positions of every operator.
    """
    quotas, thresholds = jnp.asarray(settings.quotas), jnp.asarray(settings.thresholds)

    def one_row(
        row: Generated,
        proposal: TokenPrediction,
        pick: jax.Array,
        step: jax.Array,
        selected: jax.Array,
    ) -> Action:
        if settings.empty_operator == "fallback":
            open_positions, _ = changeable(row, step, settings)
            acts = (selected[pick] & open_positions).any() | settings.is_forced(step)
            pick = jnp.where(acts, pick, settings.fallback_operator)
        update = apply_update(
            row, proposal, selected[pick], quotas[pick], thresholds[pick], step, settings
        )
        return Action(pick.astype(jnp.int32), update)

    return jax.vmap(one_row)(generated, prediction.tokens, operator, step, selected)


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
