"""One denoising step of every row: observe, choose an operator, act, record."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import Prediction
from reoac_jax.operators import O_BRANCH
from reoac_jax.rollout.act import StepInputs, act, observe, pick_operator
from reoac_jax.rollout.branch import Branching, look_ahead, no_candidates
from reoac_jax.rollout.types import Generated, RolloutSettings, Trajectory
from reoac_jax.rollout.update import changeable


class Carry(NamedTuple):
    """What a step hands to the next.

    generated: the rows. previous: int32 `[B, G]`, tokens before the last step.
    branched: bool `[B]`, rows that branched in the last step. If any did, `prediction` is the
    backbone's view of `generated`; otherwise it is stale.
    """

    generated: Generated
    previous: jax.Array
    branched: jax.Array
    prediction: Prediction


def denoising_step(
    carry: Carry, step: jax.Array, inputs: StepInputs, settings: RolloutSettings
) -> tuple[Carry, Trajectory]:
    """One step of every row; finished rows stay as they are and pay nothing.

    A branching step runs the backbone on each candidate's next state, and the winner's forward pass
    is the next step's. Nothing follows the last step, so it never branches.

    Args:
      carry: the rows before the step. step: int32 `[]`, from 0.
    """
    generated = carry.generated
    prediction = jax.lax.cond(
        carry.branched.any(),
        lambda: carry.prediction,
        lambda: inputs.denoise(generated.tokens, step, inputs.keys),
    )
    _, finished = jax.vmap(changeable, (0, None, None))(generated, step, settings)
    active = ~finished
    observation = observe(inputs, settings, generated, carry.previous, prediction, step)
    heads = inputs.heads(observation)
    chosen = pick_operator(heads.logits, inputs.keys, step, settings)
    own = act(generated, prediction, chosen, step, inputs, settings)

    scheduled = jnp.zeros((), bool)
    branching = jnp.zeros_like(active)
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
    costs = jnp.array(settings.operators.costs, jnp.float32)
    record = Trajectory(
        active=active,
        observation=observation,
        tokens=generated.tokens,
        written=update.written & active[:, None],
        repaired=update.repaired & active[:, None],
        confidence=prediction.tokens.confidence,
        logits=heads.logits,
        q=heads.q,
        chosen=chosen,
        decided=active & ~(scheduled & branching),
        operator=operator,
        executed=done.action.operator,
        cost=jnp.where(active, costs[operator], 0.0),
        # A row's own pass, unless its look-ahead made it already, and one for each candidate.
        forward_passes=(active & ~carry.branched) + branching * jnp.int32(settings.branch_k),
        branched=branching,
        candidates=done.candidates,
    )
    after = jax.tree.map(
        lambda new, old: jnp.where(active[:, None], new, old), update.generated, generated
    )
    return Carry(after, generated.tokens, branching, done.following), record
