"""The denoising loop of the usual samplers, compiled as the operator rollout is."""

from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.devices.arrays import ArrayT
from reoac_jax.devices.streams import StepStream
from reoac_jax.rollout import DenoiseFn, Generated, Prompts, RolloutSettings, StepWatcher
from reoac_jax.rollout.act import step_keys
from reoac_jax.rollout.slots import Turn, select_rows, work_through
from reoac_jax.samplers.rules import RULES, View


class Sampled(NamedTuple, Generic[ArrayT]):
    """tokens: int32 `[N, G]`, without masks. steps, forward_passes: int32 `[N]`, of each row."""

    tokens: ArrayT
    steps: ArrayT
    forward_passes: ArrayT


class _State(NamedTuple):
    """`kept`: bool `[B]`, the prediction is still that of the row's tokens."""

    tokens: jax.Array
    prediction: Any
    kept: jax.Array
    steps: jax.Array
    forward_passes: jax.Array


def sample(
    denoise: DenoiseFn,
    prompts: Prompts,
    settings: RolloutSettings,
    name: str,
    block_len: int,
    slots: int | None = None,
    count: jax.Array | None = None,
    on_step: StepWatcher | None = None,
) -> tuple[Sampled, jax.Array]:
    """Denoises rows; pure, for `jit`.

    A revealed token stays, the last step reveals what is left, and a row without a mask is
    finished. `ancestral_cached` makes a row's forward pass only if the row changed since the last
    one; the other samplers make one each step. The backbone's proposals do not depend on which of
    them were revealed, so that a kept proposal is as good a draw as a new one.

    Args:
      denoise: one forward pass. prompts: `Prompts` `[N]`.
      settings: T and G. name: of a rule in `RULES`. block_len: for `blocks`.
      slots, count, on_step: as for `rollout`.

    Returns:
      `Sampled`, and int32 `[]`, the forward passes that were made of all slots together.
    """
    rule, cached = RULES[name], name == "ancestral_cached"
    size = prompts.lengths.shape[0]
    slots = size if slots is None else slots

    def begin(rows: Prompts) -> _State:
        tokens, zeros = Generated.start(rows, settings).tokens, jnp.zeros(slots, jnp.int32)
        shapes = jax.eval_shape(denoise, rows, tokens, zeros)
        prediction = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return _State(tokens, prediction, jnp.zeros(slots, bool), zeros, zeros)

    def turn(rows: Prompts, state: _State, step: jax.Array, busy: jax.Array) -> Turn:
        # Rows whose prediction still holds go first; the others then share one forward pass.
        masked = state.tokens == settings.mask_id
        open_rows = busy & masked.any(axis=1)  # a row may be given without a mask
        kept = state.kept & open_rows
        ready = kept.any()
        active = jnp.where(ready, kept, open_rows)
        prediction = jax.lax.cond(
            ready, lambda: state.prediction, lambda: denoise(rows, state.tokens, step)
        )
        keys = jax.vmap(jax.random.fold_in, (0, None))(
            step_keys(rows.keys, step), StepStream.REVEAL
        )
        steps_left = settings.max_steps - step
        view = View(masked, prediction.tokens, steps_left, keys, block_len)
        reveal = jax.vmap(lambda *row: rule(View(*row)), (0, 0, 0, 0, None))(*view)
        reveal = jnp.where((steps_left == 1)[:, None], masked, reveal)
        after = _State(
            tokens=jnp.where(reveal, prediction.tokens.token, state.tokens),
            prediction=prediction,
            kept=~reveal.any(axis=1) if cached else jnp.zeros_like(active),
            steps=state.steps + 1,
            forward_passes=state.forward_passes + ~kept,
        )
        result = select_rows(active, after, state._replace(prediction=prediction))
        if on_step is not None:
            jax.debug.callback(on_step, jnp.where(active, step, -1), result.tokens, None)
        return Turn(
            state=result,
            record=(),
            outcome=Sampled(result.tokens, result.steps, result.forward_passes),
            acted=active,
            done=(result.tokens != settings.mask_id).all(axis=1),
            passes=(~ready).astype(jnp.int32),
        )

    everything = size if count is None else count
    worked = work_through(prompts, everything, slots, begin, turn, settings.max_steps)
    return worked.outcomes, worked.passes
