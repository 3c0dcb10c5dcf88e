"""One denoising step of every row: observe, choose an operator, act, record."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import Prediction
from reoac_jax.policy.operators import O_BRANCH
from reoac_jax.rollout.act import StepInputs, act, observe, pick_operator
from reoac_jax.rollout.branch import Branching, look_ahead, no_candidates
from reoac_jax.rollout.slots import Turn, select_rows
from reoac_jax.rollout.types import Generated, RolloutSettings, Trajectory
from reoac_jax.rollout.update import changeable


class Carry(NamedTuple):
    """What a row's step hands to its next.

    generated: the rows. previous: int32 `[B, G]`, tokens before the last step.
    prediction: the backbone's view of `generated` where `fresh`, bool `[B]`; stale elsewhere.
    kept: bool `[B]`, the row's last step gave it that view: by its own look-ahead, or because it
    changed no token. A row that is fresh but not kept got it from its neighbours' look-ahead.
    """

    generated: Generated
    previous: jax.Array
    prediction: Prediction
    fresh: jax.Array
    kept: jax.Array


def denoising_step(
    carry: Carry, step: jax.Array, busy: jax.Array, inputs: StepInputs, settings: RolloutSettings
) -> Turn:
    """One step of the rows that can take one; the others stay as they are.

    Rows whose prediction still holds go first and need no forward pass; the others then share one.
    A branching step runs the backbone on each candidate's next state, and the winner's forward pass
    is the next step's. Nothing follows the last step, so it never branches.

    Args:
      carry: the rows before the step. step: int32 `[B]`, from 0. busy: bool `[B]`, real rows.

    Returns:
      `Turn`: a `Carry`, a `Trajectory`, and the generated tokens.
    """
    generated = carry.generated
    _, finished = jax.vmap(changeable, (0, 0, None))(generated, step, settings)
    open_rows = busy & ~finished  # a row may be given without a mask
    fresh = carry.fresh & open_rows
    ready = fresh.any()
    active = jnp.where(ready, fresh, open_rows)
    prediction = jax.lax.cond(
        ready,
        lambda: carry.prediction,
        lambda: inputs.denoise(inputs.prompts, generated.tokens, step),
    )
    observation = observe(inputs, settings, generated, carry.previous, prediction, step)
    heads = inputs.heads(observation)
    chosen = pick_operator(heads.logits, inputs.prompts.keys, step, settings)
    own = act(generated, prediction, chosen, step, inputs, settings)

    scheduled = branching = jnp.zeros_like(active)
    done = Branching(own, prediction, no_candidates(active.shape[0], settings.branch_k))
    if settings.branch:
        scheduled = jnp.isin(step, jnp.array(settings.branch_steps, jnp.int32))
        branching = active & (scheduled | (own.operator == O_BRANCH))
        branching &= step < settings.max_steps - 1
        done = jax.lax.cond(
            branching.any(),
            lambda: look_ahead(
                generated, prediction, heads.q, chosen, branching, step, inputs, settings
            ),
            lambda: done,
        )

    update = done.action.update
    # A look-ahead that the actor asked for costs O_BRANCH, a scheduled one what it executed.
    operator = jnp.where(scheduled & branching, done.action.operator, own.operator)
    record = Trajectory(
        active=active,
        observation=observation,
        tokens=generated.tokens,
        written=update.written,
        repaired=update.repaired,
        confidence=prediction.tokens.confidence,
        logits=heads.logits,
        q=heads.q,
        chosen=chosen,
        decided=~(scheduled & branching),
        operator=operator,
        executed=done.action.operator,
        cost=jnp.array(settings.operators.costs, jnp.float32)[operator],
        # A row's own pass, unless the last step gave it one, and one for each candidate.
        forward_passes=~carry.kept + branching * jnp.int32(settings.branch_k),
        branched=branching,
        candidates=done.candidates,
    )
    after = update.generated
    _, finished_after = jax.vmap(changeable, (0, 0, None))(after, step + 1, settings)
    kept = branching
    if settings.keeps_predictions:
        kept = (after.tokens == generated.tokens).all(axis=1)
    following = Carry(after, generated.tokens, done.following, kept | branching.any(), kept)
    unmoved = carry._replace(prediction=prediction, fresh=jnp.zeros_like(active))
    passes = (~ready).astype(jnp.int32) + branching.any() * jnp.int32(settings.branch_k)
    return Turn(
        state=select_rows(active, following, unmoved),
        record=record,
        outcome=jnp.where(active[:, None], after.tokens, generated.tokens),
        acted=active,
        done=jnp.where(active, finished_after, finished),
        passes=passes,
    )
