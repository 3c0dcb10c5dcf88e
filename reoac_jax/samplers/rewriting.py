"""A sampler whose rows are checked and, where they fail, written anew."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reoac_jax.backbone.draw import in_first_attempt
from reoac_jax.backbone.prediction import Prediction
from reoac_jax.rollout import (
    DenoiseFn,
    KeepingDenoiser,
    Prompts,
    RolloutSettings,
    StepWatcher,
)
from reoac_jax.rollout.denoising import Decision, denoise_rows
from reoac_jax.rollout.slots import select_rows
from reoac_jax.samplers.interface import Sampler
from reoac_jax.samplers.loop import Sampled, SampledRows, SamplerDecider, reveal_keys

# (prompts int32 [B, P], their lengths int32 [B], rows filled in int32 [B, G], asked about bool [B])
# -> bool [B], on the host: which rows are as they should be, False where not asked about.
CheckFn = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class _Attempts(NamedTuple):
    """Of each row, `[B, ...]`.

    present: the attempt's rows; steps and passes in it are those of all attempts. step, number:
    int32, steps of the attempt, and attempts before it. first: int32 `[B, G]`, the first attempt's
    tokens, once it is complete. done: bool.
    """

    present: SampledRows
    step: jax.Array
    number: jax.Array
    first: jax.Array
    done: jax.Array


@dataclasses.dataclass(frozen=True)
class _RewritingDecider:
    """inner: the sampler. passes: steps that a row takes at most, in all of its attempts."""

    inner: SamplerDecider
    check: CheckFn
    passes: int

    def begin(self, rows: tuple[Prompts, Any]) -> _Attempts:
        present = self.inner.begin(rows)
        none = jnp.zeros_like(present.block)
        done = self.inner.finished(present, none)
        return _Attempts(present, none, none, present.sampled.tokens, done)

    def tokens(self, state: _Attempts) -> jax.Array:
        return state.present.sampled.tokens

    def start(self, state: _Attempts) -> jax.Array:
        return self.inner.start(state.present)

    def outcome(self, state: _Attempts) -> Sampled:
        return state.present.sampled

    def finished(self, state: _Attempts, step: jax.Array) -> jax.Array:
        return state.done

    def decide(
        self,
        rows: tuple[Prompts, Any],
        state: _Attempts,
        prediction: Prediction,
        step: jax.Array,
        active: jax.Array,
        asked: jax.Array,
    ) -> Decision:
        prompts, tokens = rows[0], self.tokens(state)
        proposal = in_first_attempt(prediction.tokens, state.number == 0)
        filled = jnp.where(tokens == self.inner.settings.mask_id, proposal.token, tokens)
        right = jax.pure_callback(
            self.check,
            jax.ShapeDtypeStruct(step.shape, bool),
            prompts.tokens,
            prompts.lengths,
            filled,
            active,
        )
        keys = reveal_keys(prompts.keys, step)
        after, kept = jax.vmap(self.inner.step_row)(
            state.present, proposal, keys, state.step, asked
        )
        complete = self.inner.finished(after, state.step + 1)
        was_first = complete & (state.number == 0)
        first = jnp.where(was_first[:, None], after.sampled.tokens, state.first)
        # As many steps as this attempt took, the next one will take too.
        room = self.passes - 1 - step > state.step
        again = complete & ~right & room
        done = right | (step == self.passes - 1) | (complete & ~room)
        kept_first = (state.number > 0) | was_first
        result = jnp.where((right | ~kept_first)[:, None], filled, first)

        anew = self.inner.begin(rows)
        anew = anew._replace(sampled=after.sampled._replace(tokens=anew.sampled.tokens))
        present = select_rows(again, anew, after)
        shown = jnp.where(done[:, None], result, present.sampled.tokens)
        present = present._replace(sampled=present.sampled._replace(tokens=shown))
        following = _Attempts(
            present=present,
            step=jnp.where(again, 0, state.step + 1),
            number=state.number + again,
            first=first,
            done=done,
        )
        kept = kept & ~again
        return Decision(
            state=following,
            record=(),
            finished=done,
            prediction=prediction,
            fresh=kept,
            kept=kept,
            operator=None,
            passes=jnp.int32(0),
        )


def sample_checked(
    denoise: DenoiseFn | KeepingDenoiser,
    prompts: Prompts,
    settings: RolloutSettings,
    sampler: Sampler,
    ends: jax.Array,
    check: CheckFn,
    passes: int,
    slots: int | None = None,
    count: jax.Array | None = None,
    on_step: StepWatcher | None = None,
) -> tuple[Sampled, jax.Array]:
    """Denoises rows in a sampler's order until they check; for `jit`.

    At each step the row is filled in with what is proposed and checked; if that is as it should be,
    it is the answer. A row that a sampler has completed and that is not, is written anew from its
    start, with tokens drawn, while as many steps are left as the attempt took. Where no attempt
    checks the first one stands, as the sampler alone would have written it.

    Args:
      denoise: one forward pass, that draws as `DrawSettings.for_attempts` says. check: on the host.
      passes: steps that a row takes at most; a step asks for one pass or none.
      The rest is as for `sample`.
    """
    decider = _RewritingDecider(SamplerDecider(sampler, ends, settings), check, passes)
    worked = denoise_rows(
        denoise, decider, prompts, (), passes, slots, count, on_step, settings.together
    )
    return worked.outcomes, worked.passes
