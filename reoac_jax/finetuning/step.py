"""Supervised fine-tuning as a jitted step: the denoising objective, AdamW, averaged weights."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from reoac_jax.backbone import lora
from reoac_jax.backbone.likelihood import reference_log_probs
from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.backbone.noise import noise_level
from reoac_jax.devices import sharding
from reoac_jax.devices.streams import FinetuningStream
from reoac_jax.finetuning.examples import Examples
from reoac_jax.finetuning.objective import (
    Answers,
    add_noise,
    antithetic_times,
    denoising_nats,
    own_lengths,
    token_weights,
)
from reoac_jax.learning.accumulation import accumulated_gradient
from reoac_jax.learning.optimizer import clipped_adamw
from reoac_jax.learning.trainable import Trainable, as_they_are, trainable
from reoac_jax.system.errors import InputError


class Sums(NamedTuple):
    """Over the steps since the last line of metrics, float32 `[]` each; `steps` is their number."""

    loss: jax.Array
    gradient_norm: jax.Array
    steps: jax.Array


class FinetuneState(NamedTuple):
    """All that fine-tuning changes.

    weights: the LoRA overlay or all backbone parameters. average: their exponential moving average.
    optimizer: AdamW's state. sums: of the metrics; part of the state, so that a resumed run writes
    the same lines.
    """

    weights: Any
    average: Any
    optimizer: Any
    sums: Sums


@dataclasses.dataclass(frozen=True)
class FinetuneSettings:
    """The static part of a step, from a validated config's section `sft`; names as there.

    trainable: what of the backbone is trained, as `sft.mode` names it. steps, warmup_steps: also
    where the section gives them as epochs and as a share.
    """

    trainable: Trainable
    steps: int
    accumulate: int
    learning_rate: float
    warmup_steps: int
    final_rate: float
    weight_decay: float
    beta2: float
    gradient_clip: float
    ema_decay: float
    eos_weight: float
    short_share: float
    fsdp: bool

    @classmethod
    def from_config(cls, config: ConfigDict, problems: int) -> "FinetuneSettings":
        """problems: how many training problems there are, for `sft.epochs`.

        Raises `InputError` where the warm-up leaves nothing to follow it.
        """
        sft = config.sft
        own = {
            field.name: sft[field.name] for field in dataclasses.fields(cls) if field.name in sft
        }
        if sft.epochs:
            own["steps"] = math.ceil(sft.epochs * problems / sft.batch_size)
        if sft.warmup_share:
            own["warmup_steps"] = math.ceil(sft.warmup_share * own["steps"])
        if own["warmup_steps"] >= own["steps"]:
            raise InputError(
                f"the warm-up has {own['warmup_steps']} of {own['steps']} steps; expected fewer: "
                "sft.warmup_steps, sft.warmup_share and sft.epochs decide"
            )
        return cls(**own, trainable=trainable(sft.mode, config), fsdp=config.sharding.fsdp)

    def rate(self, step: jax.Array | int) -> jax.Array:
        """Learning rate of a step, from 0: linear rise to the peak, then cosine decay."""
        schedule = optax.warmup_cosine_decay_schedule(
            # Not 0, which would waste the first step.
            init_value=self.learning_rate / (self.warmup_steps + 1),
            peak_value=self.learning_rate,
            warmup_steps=self.warmup_steps,
            decay_steps=self.steps,
            end_value=self.learning_rate * self.final_rate,
        )
        return schedule(step)

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """With the rate of each step."""
        return clipped_adamw(self.rate, self.weight_decay, self.gradient_clip, self.beta2)


@dataclasses.dataclass(frozen=True)
class Finetuner:
    """`init`, then `step`; `params` gives the weights that are evaluated and kept.

    model: the backbone with the dropout rates of training. eos_id: also the padding. mesh: where
    `place` has put the state, and `sharding` the batches.
    """

    model: DenoiserModule
    eos_id: int
    settings: FinetuneSettings
    mesh: Mesh

    def init(self, key: jax.Array, base: Any, overlay: lora.Overlay | None = None) -> FinetuneState:
        """A fresh state over the base parameters; mode `full` copies them.

        overlay: LoRA's start; None: a new one.
        Raises `InputError` where the LoRA targets or rank do not fit the backbone.
        """
        settings = self.settings
        weights = settings.trainable.init(key, base, self.model.lora_targets, overlay)
        # Copies: the step donates its state, and a buffer may be donated once.
        weights, average = jax.tree.map(jnp.copy, (weights, weights))
        return FinetuneState(weights, average, settings.optimizer.init(weights), zero_sums())

    def place(self, state: FinetuneState) -> FinetuneState:
        """The state on the mesh; with `fsdp` all but the sums in parts."""
        return sharding.place_parameters(self.mesh, state, self.settings.fsdp)

    def params(self, base: Any, weights: Any, finish: Callable[[Any], Any] = as_they_are) -> Any:
        """Backbone parameters of `state.average` or `state.weights`, LoRA merged in.

        finish: as in `Trainable.merged`.
        """
        return self.settings.trainable.merged(base, weights, finish)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def step(
        self,
        state: FinetuneState,
        base: Any,
        examples: Examples,
        key: jax.Array,
        step: jax.Array,
    ) -> FinetuneState:
        """One gradient step.

        Args:
          base: the frozen parameters of mode `lora`, never changed; None in mode `full`.
          examples: this step's, of few different widths: each is compiled for.
          key: the run's key. step: int32 `[]`, from 0; what is random derives from both.
        """
        settings = self.settings
        step_key = jax.random.fold_in(key, step)
        keys = {stream: jax.random.fold_in(step_key, stream) for stream in FinetuningStream}
        batch, gen_len = examples.answer.shape
        short = jax.random.uniform(keys[FinetuningStream.SHORT], (batch,)) < settings.short_share
        kept = jnp.where(short, own_lengths(examples.answer, self.eos_id), gen_len)
        answers = Answers(*examples, kept)
        t = antithetic_times(keys[FinetuningStream.TIME], batch)
        uniforms = jax.random.uniform(keys[FinetuningStream.MASK], (batch, gen_len))
        weight = token_weights(answers, self.eos_id, settings.eos_weight)
        # The mean is over the answer tokens of the whole batch, however it is cut.
        share = weight / weight.sum()

        def loss_fn(weights: Any, part: tuple, part_key: jax.Array) -> tuple[jax.Array, jax.Array]:
            answers, t, uniforms, share = part
            loss = self._loss(weights, base, answers, t, uniforms, share, part_key)
            return loss, loss

        if settings.fsdp:
            loss_fn = sharding.gathering_again(loss_fn)
        # Neighbours have like times: each microbatch gets every so-manyth row.
        loss, gradient = accumulated_gradient(
            loss_fn, state.weights, (answers, t, uniforms, share), keys[FinetuningStream.DROPOUT],
            settings.accumulate,
        )  # fmt: skip

        updates, optimizer = settings.optimizer.update(gradient, state.optimizer, state.weights)
        weights = optax.apply_updates(state.weights, updates)
        decay = jnp.minimum(settings.ema_decay, (1.0 + step) / (10.0 + step))
        average = optax.incremental_update(weights, state.average, 1.0 - decay)
        sums = jax.tree.map(
            jnp.add, state.sums, Sums(loss, optax.tree.norm(gradient), jnp.float32(1.0))
        )
        state = FinetuneState(weights, average, optimizer, sums)
        return sharding.keep_split(self.mesh, state) if settings.fsdp else state

    def _loss(
        self,
        weights: Any,
        base: Any,
        answers: Answers,
        t: jax.Array,
        uniforms: jax.Array,
        share: jax.Array,
        dropout_key: jax.Array,
    ) -> jax.Array:
        """The microbatch's part of the mean; share: `[b, G]`, of each token in the mean."""
        noised = add_noise(answers, t, uniforms, self.model.spec.mask_id, self.eos_id)
        if self.settings.fsdp:
            base, weights = sharding.gather_parameters(self.mesh, (base, weights))
        variables = self.settings.trainable.variables(base, weights)
        log_probs = reference_log_probs(
            self.model, variables, noised.rows, noised.lengths, answers.answer, noise_level(t),
            dropout_key, first=answers.prompt_length, shares=self.mesh.size,
        )  # fmt: skip
        return denoising_nats(log_probs, noised.masked, t, share).sum()


def zero_sums() -> Sums:
    return Sums(*(jnp.zeros((), jnp.float32) for _ in Sums._fields))


def check_fit(config: ConfigDict, mesh: Mesh) -> None:
    """Raises `InputError` where a microbatch does not fit the devices."""
    sft = config.sft
    if (sft.batch_size // sft.accumulate) % mesh.size:
        raise InputError(
            f"sft.batch_size / sft.accumulate is {sft.batch_size // sft.accumulate}; expected a "
            f"multiple of the {mesh.size} devices"
        )


def batch_rows(seed: int, count: int, size: int, step: int) -> np.ndarray:
    """int32 `[size]`, the examples of a step: all `count` once in random order, then anew."""
    positions = np.arange(step * size, (step + 1) * size)
    epochs, places = np.divmod(positions, count)
    rows = [
        _epoch_order(seed, count, epoch)[place] for epoch, place in zip(epochs, places, strict=True)
    ]
    return np.array(rows, np.int32)


@functools.lru_cache(maxsize=2)
def _epoch_order(seed: int, count: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)
