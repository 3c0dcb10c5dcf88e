"""The whole rollout as one compiled loop over the denoising steps."""

from typing import Any

import jax
import jax.numpy as jnp

from reoac_jax.backbone.model import Backbone
from reoac_jax.backbone.prediction import Prediction, assemble_rows, predict
from reoac_jax.features import prompt_context
from reoac_jax.rollout.act import StepInputs, step_keys
from reoac_jax.rollout.step import Carry, denoising_step
from reoac_jax.rollout.types import (
    DenoiseFn,
    Generated,
    HeadsFn,
    Prompts,
    Rollout,
    RolloutSettings,
    StepWatcher,
)
from reoac_jax.rollout.update import changeable
from reoac_jax.vocabulary import Vocabulary

_DRAW_STREAM = 0  # folded into a step's key: the token draw


def sigma_at(step: jax.Array, settings: RolloutSettings) -> jax.Array:
    """Noise level, float32, of a step (DESIGN.md, section 3); `sigma_max` if there is but one."""
    low, high = settings.sigma_min, settings.sigma_max
    share = step / jnp.float32(max(settings.max_steps - 1, 1))
    if settings.sigma_schedule == "cosine":
        return low + (high - low) * (1.0 + jnp.cos(jnp.pi * share)) / 2.0
    return high + (low - high) * share


def backbone_denoiser(
    model: Backbone, variables: Any, prompts: Prompts, settings: RolloutSettings
) -> DenoiseFn:
    """The backbone as a `DenoiseFn` for these prompts; call it inside `jit`.

    Args:
      model, variables: the backbone and its collections, LoRA already merged.
      prompts: the batch. settings: T, G, how tokens are drawn.
    """
    # Without time conditioning nothing here depends on the step: computed once, outside the loop.
    constant = None if settings.time_conditioned else model.apply(variables, method="modulation")

    def denoise(generated: jax.Array, step: jax.Array, keys: jax.Array) -> Prediction:
        rows, lengths = assemble_rows(prompts.tokens, prompts.lengths, generated, settings.pad_id)
        modulation = constant
        if modulation is None:
            sigma = jnp.broadcast_to(sigma_at(step, settings), lengths.shape)
            modulation = model.apply(variables, sigma, method="modulation")
        draw_keys = jax.vmap(jax.random.fold_in, (0, None))(step_keys(keys, step), _DRAW_STREAM)
        uniforms = jax.vmap(lambda key: jax.random.uniform(key, (settings.gen_len, 2)))(draw_keys)
        return predict(
            model, variables, modulation, rows, lengths, settings.gen_len, uniforms, settings.draw
        )

    return denoise


def rollout(
    denoise: DenoiseFn,
    heads: HeadsFn,
    prompts: Prompts,
    vocabulary: Vocabulary,
    settings: RolloutSettings,
    on_step: StepWatcher | None = None,
) -> Rollout:
    """Denoises a batch of rows under the operator policy; pure, for `jit`.

    The loop ends when every row is finished; the steps after that stay zero (inactive).

    Args:
      denoise, heads: one forward pass, actor and critic.
      prompts: `Prompts` `[B]`. vocabulary: tables on the device. settings: static.
      on_step: is called from the loop, if given.

    Returns:
      `Rollout`, steps stacked to `[T, B, ...]`.
    """
    batch = prompts.lengths.shape[0]
    contexts = jax.vmap(prompt_context, (0, 0, 0, None))(
        prompts.tokens, prompts.lengths, prompts.key_mask, vocabulary
    )
    inputs = StepInputs(contexts, prompts.keys, vocabulary, denoise, heads)
    generated = Generated.start(prompts, settings)
    prediction = _zeros_like(jax.eval_shape(denoise, generated.tokens, jnp.int32(0), prompts.keys))
    start = Carry(generated, generated.tokens, jnp.zeros(batch, bool), prediction)
    _, record = jax.eval_shape(lambda c: denoising_step(c, jnp.int32(0), inputs, settings), start)
    empty = jax.tree.map(lambda x: jnp.zeros((settings.max_steps, *x.shape), x.dtype), record)

    def running(state: tuple) -> jax.Array:
        step, carry, _ = state
        _, finished = jax.vmap(changeable, (0, None, None))(carry.generated, step, settings)
        return (step < settings.max_steps) & ~finished.all()

    def advance(state: tuple) -> tuple:
        step, carry, steps = state
        carry, record = denoising_step(carry, step, inputs, settings)
        if on_step is not None:
            jax.debug.callback(on_step, step, carry.generated.tokens, record.operator)
        steps = jax.tree.map(lambda all_, one: all_.at[step].set(one), steps, record)
        return step + 1, carry, steps

    _, carry, steps = jax.lax.while_loop(running, advance, (jnp.int32(0), start, empty))
    return Rollout(steps, carry.generated.tokens)


def _zeros_like(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
