"""The look-ahead of a branching step (DESIGN.md, section 9)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import Prediction
from reoac_jax.policy.distributions import among_legal
from reoac_jax.rollout.act import Action, Choices, StepInputs, act, choices_at, observe
from reoac_jax.rollout.settings import RolloutSettings
from reoac_jax.rollout.types import Candidates, Generated


class Branching(NamedTuple):
    """action: what was done. following: the backbone's view of its outcome. candidates: all."""

    action: Action
    following: Prediction
    candidates: Candidates


def no_candidates(batch: int, branch_k: int) -> Candidates:
    """The record of a step at which no row branched."""
    zeros = jnp.zeros((batch, branch_k), jnp.float32)
    return Candidates(operator=zeros.astype(jnp.int32), value=zeros, cost=zeros)


def look_ahead(
    generated: Generated,
    prediction: Prediction,
    q: jax.Array,
    choices: Choices,
    chosen: jax.Array,
    branching: jax.Array,
    step: jax.Array,
    inputs: StepInputs,
    settings: RolloutSettings,
) -> Branching:
    """Tries the `branch_k` legal operators of highest Q and keeps the best next state.

    Where fewer are legal, the first of them is tried again in their place; where none is but those
    that branch, what the row would do without branching. The best has the highest max_a Q(next) -
    cost_lambda * cost. One candidate's forward pass is made at a time: memory stays that of a plain
    step.

    Args:
      generated: the rows now. prediction: the backbone's view of them.
      q: float32 `[B, A]`. choices: what there is to choose from.
      chosen: int32 `[B]`, what rows that do not branch do.
      branching: bool `[B]`.
      step: int32 `[B]`; not the last one of a row that branches.
    """
    branches = jnp.array([operator.branches for operator in settings.operators])
    candidate = choices.legal & ~branches
    _, best = jax.lax.top_k(jnp.where(candidate, q, -jnp.inf), settings.branch_k)
    is_candidate = jnp.take_along_axis(candidate, best, axis=1)
    instead = jnp.where(is_candidate[:, :1], best[:, :1], chosen[:, None])
    best = jnp.where(is_candidate, best, instead).astype(jnp.int32)
    picks = jnp.where(branching[:, None], best, chosen[:, None])
    costs = jnp.asarray(settings.costs, jnp.float32)

    def try_candidate(pick: jax.Array) -> tuple[Action, Prediction, jax.Array]:
        action = act(generated, prediction, pick, step, choices.selected, settings)
        after = action.update.generated
        following = inputs.denoise(inputs.prompts, after.tokens, step + 1)
        then = choices_at(after, following, step + 1, inputs, settings)
        seen = observe(inputs, settings, after, generated.tokens, following, step + 1, then)
        q_of_next = inputs.heads(seen, step + 1).q
        assert q_of_next is not None
        next_q = among_legal(q_of_next, then.legal)
        return action, following, next_q.max(axis=-1)

    actions, followings, values = jax.lax.map(try_candidate, picks.T)
    candidate_costs = costs[actions.operator]
    winner = jnp.argmax(values - settings.cost_lambda * candidate_costs, axis=0)
    winner = jnp.where(branching, winner, 0)
    rows = jnp.arange(winner.shape[0])
    action, following = jax.tree.map(lambda x: x[winner, rows], (actions, followings))
    recorded = Candidates(operator=actions.operator, value=values, cost=candidate_costs)
    recorded = jax.tree.map(
        lambda x: jnp.where(branching[:, None], x.T, jnp.zeros((), x.dtype)), recorded
    )
    return Branching(action, following, recorded)
