"""Rows that the critic finds wanting when they are complete: masked again where they are weakest.

The operator policy goes on from there, with drawn tokens; each row keeps its most valued attempt.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import in_first_attempt
from reoac_jax.backbone.prediction import Prediction
from reoac_jax.policy.distributions import OneOperator
from reoac_jax.policy.features import PromptContext
from reoac_jax.policy.ranking import lowest
from reoac_jax.rollout.denoising import Decision
from reoac_jax.rollout.settings import Remasking, RolloutSettings
from reoac_jax.rollout.slots import select_rows
from reoac_jax.rollout.step import OperatorDecider, Rows
from reoac_jax.rollout.types import Generated, Prompts

_ROUNDING = 1e-4  # of a share of some steps, that shall not be one step more


class _Attempts(NamedTuple):
    """Of each row, `[B, ...]`.

    present: the attempt's rows. step: int32, the step at which the actor believes itself. whole:
    int32, steps of the first attempt, 0 until it is complete. tokens: int32 `[B, G]`, value:
    float32, of the most valued complete attempt, -inf before there is one. done: bool.
    """

    present: Rows
    step: jax.Array
    whole: jax.Array
    tokens: jax.Array
    value: jax.Array
    done: jax.Array


@dataclasses.dataclass(frozen=True)
class RemaskingDecider:
    """The operator policy as a `Decider` whose complete rows may go on.

    inner: the policy; its settings have `remasking`, and draw as `DrawSettings.for_attempts`
    says.
    """

    inner: OperatorDecider

    @property
    def _settings(self) -> RolloutSettings:
        return self.inner.settings

    @property
    def _rule(self) -> Remasking:
        rule = self._settings.remasking
        assert rule is not None
        return rule

    def begin(self, rows: tuple[Prompts, PromptContext]) -> _Attempts:
        present = self.inner.begin(rows)
        none = jnp.zeros(present.previous.shape[0], jnp.int32)
        done = self.inner.finished(present, none)
        tokens = present.generated.tokens
        return _Attempts(present, none, none, tokens, jnp.full(none.shape, -jnp.inf), done)

    def tokens(self, state: _Attempts) -> jax.Array:
        return jnp.where(state.done[:, None], state.tokens, self.inner.tokens(state.present))

    def outcome(self, state: _Attempts) -> jax.Array:
        return state.tokens

    def finished(self, state: _Attempts, step: jax.Array) -> jax.Array:
        return state.done

    def decide(
        self,
        rows: tuple[Prompts, PromptContext],
        state: _Attempts,
        prediction: Prediction,
        step: jax.Array,
        active: jax.Array,
        asked: jax.Array,
    ) -> Decision:
        rule = self._rule
        first = state.whole == 0
        proposals = in_first_attempt(prediction.tokens, first)
        prediction = prediction._replace(tokens=proposals)
        # A row's last step of all reveals everything, as the last one of an attempt does.
        own = jnp.where(step == rule.passes - 1, self._settings.max_steps - 1, state.step)
        made = self.inner.decide(rows, state.present, prediction, own, active, asked, turn=step)
        # The row as it is proposed: its last step writes just that.
        seen = made.record
        value = OneOperator(seen.logits, seen.legal).value(seen.q)
        written = made.state.generated
        complete = made.finished
        better = complete & (value > state.value)
        tokens = jnp.where(better[:, None], written.tokens, state.tokens)

        whole = jnp.where(complete & first, own + 1, state.whole)
        # As many steps as that share of the first attempt took, it will take again.
        steps = jnp.ceil(rule.share * whole - _ROUNDING).astype(jnp.int32)
        room = rule.passes - 1 - step >= steps
        again = complete & (value < rule.value) & room & ~written.fixed.all(axis=1)
        weakest = again[:, None] & _weakest(written, rule.tokens(self._settings.gen_len))
        masked = written._replace(
            tokens=jnp.where(weakest, self._settings.mask_id, written.tokens),
            confidence=jnp.where(weakest, 0.0, written.confidence),
            entropy=jnp.where(weakest, 0.0, written.entropy),
        )
        following = _Attempts(
            present=select_rows(again, Rows(masked, written.tokens), made.state),
            step=jnp.where(again, whole - steps, own + 1),
            whole=whole,
            tokens=tokens,
            value=jnp.where(better, value, state.value),
            done=complete & ~again,
        )
        return made._replace(
            state=following,
            record=seen._replace(repaired=seen.repaired | weakest),
            finished=following.done,
            fresh=made.fresh & ~again,
            kept=made.kept & ~again,
        )


def _weakest(written: Generated, count: int) -> jax.Array:
    """bool `[B, G]`: so many tokens of each row, those written with the least confidence."""
    return jax.vmap(lowest, (0, 0, None))(written.confidence, ~written.fixed, jnp.int32(count))
