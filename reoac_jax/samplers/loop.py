"""The denoising loop of the usual samplers, compiled as the operator rollout is."""

from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.arrays import ArrayT
from reoac_jax.rollout import DenoiseFn, Generated, Prompts, RolloutSettings, StepWatcher
from reoac_jax.rollout.act import step_keys
from reoac_jax.samplers.rules import RULES, View

_REVEAL_STREAM = 2  # folded into a step's key; the rollout's own streams are 0 and 1


class Sampled(NamedTuple, Generic[ArrayT]):
    """tokens: int32 `[B, G]`, without masks. steps, forward_passes: int32 `[B]`, of each row."""

    tokens: ArrayT
    steps: ArrayT
    forward_passes: ArrayT


class _State(NamedTuple):
    step: jax.Array
    tokens: jax.Array
    prediction: object
    stale: jax.Array
    steps: jax.Array
    forward_passes: jax.Array


def sample(
    denoise: DenoiseFn,
    prompts: Prompts,
    settings: RolloutSettings,
    name: str,
    block_len: int,
    on_step: StepWatcher | None = None,
) -> Sampled:
    """Denoises a batch of rows; pure, for `jit`.

    A revealed token stays, the last step reveals what is left, and the loop ends when no row has a
    mask. `ancestral_cached` makes a row's forward pass only if the row changed since the last one;
    the other samplers make one each step. The backbone's proposals do not depend on which of them
    were revealed, so that a kept proposal is as good a draw as a new one.

    Args:
      denoise: one forward pass. prompts: `Prompts` `[B]`.
      settings: T and G. name: of a rule in `RULES`. block_len: for `blocks`.
      on_step: is called from the loop, if given.
    """
    rule, cached = RULES[name], name == "ancestral_cached"
    batch = prompts.lengths.shape[0]
    tokens = Generated.start(prompts, settings).tokens
    shapes = jax.eval_shape(denoise, tokens, jnp.int32(0), prompts.keys)
    prediction = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    zeros = jnp.zeros(batch, jnp.int32)
    start = _State(jnp.int32(0), tokens, prediction, jnp.ones(batch, bool), zeros, zeros)

    def running(state: _State) -> jax.Array:
        return (state.step < settings.max_steps) & (state.tokens == settings.mask_id).any()

    def advance(state: _State) -> _State:
        masked = state.tokens == settings.mask_id
        active = masked.any(axis=1)
        needed = active & state.stale

        def forward() -> object:
            new = denoise(state.tokens, state.step, prompts.keys)

            def keep(fresh: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(needed.reshape(-1, *[1] * (fresh.ndim - 1)), fresh, old)

            return jax.tree.map(keep, new, state.prediction)

        prediction = jax.lax.cond(needed.any(), forward, lambda: state.prediction)
        keys = jax.vmap(jax.random.fold_in, (0, None))(
            step_keys(prompts.keys, state.step), _REVEAL_STREAM
        )
        steps_left = settings.max_steps - state.step
        view = View(masked, prediction.tokens, steps_left, keys, block_len)
        reveal = jax.vmap(lambda *row: rule(View(*row)), (0, 0, None, 0, None))(*view)
        reveal = jnp.where(steps_left == 1, masked, reveal)
        tokens = jnp.where(reveal, prediction.tokens.token, state.tokens)
        if on_step is not None:
            jax.debug.callback(on_step, state.step, tokens, None)
        return _State(
            step=state.step + 1,
            tokens=tokens,
            prediction=prediction,
            stale=reveal.any(axis=1) if cached else jnp.ones(batch, bool),
            steps=state.steps + active,
            forward_passes=state.forward_passes + needed,
        )

    end = jax.lax.while_loop(running, advance, start)
    return Sampled(end.tokens, end.steps, end.forward_passes)
