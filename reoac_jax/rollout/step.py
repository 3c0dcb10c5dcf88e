"""One denoising step of every row under an actor: observe, choose, act, record.

Here that of the operator policy; `rollout/positions.py` has the other.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import Prediction
from reoac_jax.policy.distributions import OneOperator
from reoac_jax.policy.features import PromptContext
from reoac_jax.policy.heads import HeadOutput
from reoac_jax.policy.observation import Observation, with_hidden, with_prompt
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout.act import Choices, StepInputs, act, choices_at, observe, pick
from reoac_jax.rollout.branch import Branching, look_ahead, no_candidates
from reoac_jax.rollout.denoising import Decision
from reoac_jax.rollout.settings import RolloutSettings
from reoac_jax.rollout.types import DenoiseFn, Generated, HeadsFn, Prompts, Trajectory
from reoac_jax.rollout.update import changeable


class Rows(NamedTuple):
    """generated: the rows. previous: int32 `[B, G]`, tokens before the last step."""

    generated: Generated
    previous: jax.Array


@dataclasses.dataclass(frozen=True)
class ActorDecider:
    """What the two policies with an actor have in common as a `Decider`."""

    vocabulary: Vocabulary
    denoise: DenoiseFn
    heads: HeadsFn
    settings: RolloutSettings

    def begin(self, rows: tuple[Prompts, PromptContext]) -> Rows:
        generated = Generated.start(rows[0], self.settings)
        return Rows(generated, generated.tokens)

    def tokens(self, state: Rows) -> jax.Array:
        return state.generated.tokens

    def outcome(self, state: Rows) -> jax.Array:
        return state.generated.tokens

    def finished(self, state: Rows, step: jax.Array) -> jax.Array:
        _, finished = jax.vmap(changeable, (0, 0, None))(state.generated, step, self.settings)
        return finished

    def inputs(self, rows: tuple[Prompts, PromptContext]) -> StepInputs:
        return StepInputs(*rows, self.vocabulary, self.denoise, self.heads)

    def kept_of(self, observation: Observation[jax.Array]) -> Observation[jax.Array]:
        """What is recorded of an observation: without the prompts, and hidden states if asked."""
        observation = with_prompt(observation, None, None)
        if self.settings.rows and not self.settings.keep_hidden:
            observation = with_hidden(observation, None)
        return observation


class OperatorDecider(ActorDecider):
    """The operator policy as a `Decider`: its rows are `(Prompts, PromptContext)`.

    A branching step runs the backbone on each candidate's next state, and the winner's forward pass
    is the next step's. Nothing follows the last step, so it never branches.
    """

    def decide(
        self,
        rows: tuple[Prompts, PromptContext],
        state: Rows,
        prediction: Prediction,
        step: jax.Array,
        active: jax.Array,
        asked: jax.Array,
        turn: jax.Array | None = None,
    ) -> Decision:
        """turn: int32 `[B]`, steps that the row has taken, where these are not `step`."""
        settings, generated = self.settings, state.generated
        inputs = self.inputs(rows)
        turn = step if turn is None else turn
        if settings.stop_value is not None:
            last = jnp.full_like(step, settings.max_steps - 1)  # which reveals everything
            _, _, policy, heads = self._seen(inputs, state, prediction, last)
            assert heads.q is not None
            step = jnp.where(policy.value(heads.q) >= settings.stop_value, last, step)
        choices, observation, policy, heads = self._seen(inputs, state, prediction, step)
        chosen = pick(policy, inputs.prompts.keys, turn, settings)
        own = act(generated, prediction, chosen, step, choices.selected, settings)

        scheduled = branching = jnp.zeros_like(active)
        looks_ahead = jnp.zeros((), bool)
        done = Branching(own, prediction, no_candidates(active.shape[0], settings.branch_k))
        if settings.branch:
            q = heads.q
            assert q is not None
            scheduled = jnp.isin(step, jnp.array(settings.branch_steps, jnp.int32))
            branches = jnp.array([operator.branches for operator in settings.operators])
            branching = active & (scheduled | branches[own.operator])
            branching &= step < settings.max_steps - 1
            looks_ahead = branching.any()
            if settings.together is not None:
                looks_ahead = settings.together(looks_ahead)
            done = jax.lax.cond(
                looks_ahead,
                lambda: look_ahead(
                    generated,
                    prediction,
                    q,
                    choices,
                    chosen,
                    branching,
                    step,
                    inputs,
                    settings,
                ),
                lambda: done,
            )

        update = done.action.update
        valued = jnp.int32(settings.filled)
        looks = 1 if settings.stop_value is None else 2  # of the critic at the row
        # One that the actor asked for costs what asking costs, a scheduled one what it executed.
        operator = jnp.where(scheduled & branching, done.action.operator, own.operator)
        record = Trajectory(
            active=active,
            observation=self.kept_of(observation),
            tokens=generated.tokens,
            written=update.written,
            repaired=update.repaired,
            confidence=prediction.tokens.confidence,
            log_prob=written_log_prob(prediction.tokens.drawn, update.written),
            logits=heads.logits,
            q=heads.q,
            legal=choices.legal,
            chosen=chosen,
            decided=~(scheduled & branching) & ~settings.is_forced(step),
            operator=operator,
            executed=done.action.operator,
            cost=jnp.array(settings.costs, jnp.float32)[operator],
            # A row's own pass, unless the last step gave it one, and one for each candidate; beside
            # each that of a critic that is a backbone.
            forward_passes=asked + looks * valued + branching * settings.branch_k * (1 + valued),
            branched=branching,
            candidates=done.candidates,
        )
        after = update.generated
        kept = branching
        if settings.keeps_predictions:
            kept = (after.tokens == generated.tokens).all(axis=1)
        following = Rows(after, generated.tokens)
        return Decision(
            state=following,
            record=record,
            finished=self.finished(following, step + 1),
            prediction=done.following,
            fresh=kept | looks_ahead,
            kept=kept,
            operator=operator,
            passes=looks * valued + looks_ahead * settings.branch_k * (1 + valued),
        )

    def _seen(
        self, inputs: StepInputs, state: Rows, prediction: Prediction, step: jax.Array
    ) -> tuple[Choices, Observation[jax.Array], OneOperator, HeadOutput]:
        """The rows at these steps, int32 `[B]`, and what the heads say of them."""
        generated, settings = state.generated, self.settings
        choices = choices_at(generated, prediction, step, inputs, settings)
        observation = observe(
            inputs, settings, generated, state.previous, prediction, step, choices
        )
        heads = inputs.heads(observation, step)
        return choices, observation, OneOperator(heads.logits, choices.legal), heads


def written_log_prob(drawn: jax.Array | None, written: jax.Array) -> jax.Array | None:
    """float32 `[B, G]`: of the written tokens, from the probability with which each was drawn."""
    return None if drawn is None else jnp.log(jnp.where(written, drawn, 1.0))
