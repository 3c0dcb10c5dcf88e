"""The whole rollout as one compiled loop over the denoising steps of many rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.backbone.interface import Denoiser
from reoac_jax.backbone.kept import Kept
from reoac_jax.backbone.prediction import Prediction, States, assemble_rows, predict
from reoac_jax.backbone.window_prediction import predict_window
from reoac_jax.devices.streams import StepStream
from reoac_jax.policy.features import prompt_context
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout.act import step_keys
from reoac_jax.rollout.denoising import Decider, denoise_rows
from reoac_jax.rollout.positions import PositionDecider
from reoac_jax.rollout.remasking import RemaskingDecider
from reoac_jax.rollout.settings import RolloutSettings
from reoac_jax.rollout.sigma import sigma_of
from reoac_jax.rollout.step import OperatorDecider
from reoac_jax.rollout.types import DenoiseFn, HeadsFn, Prompts, Rollout, StepWatcher


def backbone_denoiser(
    model: Denoiser,
    variables: Any | Callable[[Any], Any],
    settings: RolloutSettings,
    draw: DrawSettings | None = None,
    ends: jax.Array | None = None,
) -> DenoiseFn:
    """The backbone as a `DenoiseFn`; call it inside `jit`.

    Args:
      model, variables: the backbone and its collections, LoRA already merged; or what gathers them
        for a pass from the parts on all devices, given arrays that the pass needs too.
      settings: T, G, how tokens are drawn. draw: in place of what they say of that.
      ends: bool `[V]`, the tokens that end a text; needed where `draw` measures them.
    """
    draw = settings.draw if draw is None else draw
    # Where the network does not see the time, nothing here depends on the row: computed once,
    # outside the loop.
    gather = variables if callable(variables) else lambda after: variables
    constant = None
    if not settings.time_conditioned:
        constant = model.prepare(gather(()))

    def denoise(
        prompts: Prompts, generated: jax.Array, step: jax.Array, before: States | None = None
    ) -> Prediction:
        rows, lengths = assemble_rows(prompts.tokens, prompts.lengths, generated, settings.pad_id)
        variables, prepared = gather((rows, step)), constant
        if prepared is None:
            prepared = model.prepare(variables, sigma_of(generated, step, settings))
        uniforms = _uniforms(prompts.keys, step, settings.gen_len)
        return predict(
            model, variables, prepared, rows, lengths, settings.gen_len, uniforms, draw, ends,
            before, seen=step > 0, keep_states=settings.rows,
        )  # fmt: skip

    return denoise


def _uniforms(keys: jax.Array, step: jax.Array, gen_len: int) -> jax.Array:
    """float32 `[B, G, 2]`: with which the rows draw their tokens at these steps."""
    draw_keys = jax.vmap(jax.random.fold_in, (0, None))(step_keys(keys, step), StepStream.DRAW)
    return jax.vmap(lambda key: jax.random.uniform(key, (gen_len, 2)))(draw_keys)


@dataclasses.dataclass(frozen=True)
class KeepingBackbone:
    """The backbone as a `KeepingDenoiser`. Fields as the arguments of `backbone_denoiser`."""

    model: Denoiser
    variables: Any
    settings: RolloutSettings
    draw: DrawSettings
    ends: jax.Array | None

    @property
    def widths(self) -> tuple[int, ...]:
        return self.settings.windows

    def whole(
        self,
        prompts: Prompts,
        generated: jax.Array,
        step: jax.Array,
        before: States | None = None,
    ) -> tuple[Prediction, Kept]:
        model, variables, settings = self.model, self.variables, self.settings
        rows, lengths = assemble_rows(prompts.tokens, prompts.lengths, generated, settings.pad_id)
        prepared = model.prepare(variables)
        hidden, kept = model.hidden_and_kept(variables, rows, lengths, prepared)
        uniforms = _uniforms(prompts.keys, step, settings.gen_len)
        prediction = predict(
            model, variables, prepared, rows, lengths, settings.gen_len, uniforms, self.draw,
            self.ends, before, seen=step > 0, hidden=hidden,
        )  # fmt: skip
        return prediction, kept

    def window(
        self,
        prompts: Prompts,
        generated: jax.Array,
        step: jax.Array,
        kept: Kept,
        start: jax.Array,
        width: int,
        before: States | None = None,
    ) -> Prediction:
        model, variables, settings = self.model, self.variables, self.settings
        rows, lengths = assemble_rows(prompts.tokens, prompts.lengths, generated, settings.pad_id)
        uniforms = _uniforms(prompts.keys, step, settings.gen_len)
        return predict_window(
            model, variables, model.prepare(variables), kept, rows, lengths, settings.gen_len,
            start, width, uniforms, self.draw, self.ends, before,
        )  # fmt: skip


def rollout(
    denoise: DenoiseFn,
    heads: HeadsFn,
    prompts: Prompts,
    vocabulary: Vocabulary,
    settings: RolloutSettings,
    slots: int | None = None,
    count: jax.Array | None = None,
    on_step: StepWatcher | None = None,
) -> tuple[Rollout, jax.Array]:
    """Denoises rows under the operator policy, or that over positions; pure, for `jit`.

    Args:
      denoise, heads: one forward pass, actor and critic.
      prompts: `Prompts` `[N]`. vocabulary: tables on the device. settings: static.
      slots, count, on_step: as in `denoise_rows`.

    Returns:
      `Rollout`, steps stacked to `[T, N, ...]`, and int32 `[]`, the forward passes that were made
      of all slots together.
    """
    decider: Decider
    if settings.positions:
        decider = PositionDecider(vocabulary, denoise, heads, settings)
    else:
        decider = OperatorDecider(vocabulary, denoise, heads, settings)
        if settings.remasking is not None:
            decider = RemaskingDecider(decider)
    contexts = jax.vmap(prompt_context, (0, 0, 0, None, None))(
        prompts.tokens, prompts.lengths, prompts.key_mask, vocabulary, settings.notation
    )
    worked = denoise_rows(
        denoise, decider, prompts, contexts, settings.row_steps, slots, count, on_step,
        settings.together,
    )  # fmt: skip
    return Rollout(worked.records, worked.outcomes), worked.passes
