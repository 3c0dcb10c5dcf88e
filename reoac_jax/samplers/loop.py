"""The denoising loop of a sampler, compiled as the operator rollout is."""

import dataclasses
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import Prediction
from reoac_jax.devices.arrays import ArrayT
from reoac_jax.devices.streams import StepStream
from reoac_jax.rollout import (
    DenoiseFn,
    Generated,
    KeepingDenoiser,
    Prompts,
    RolloutSettings,
    StepWatcher,
)
from reoac_jax.rollout.act import step_keys
from reoac_jax.rollout.denoising import Decision, denoise_rows
from reoac_jax.samplers.interface import Sampler, View


class Sampled(NamedTuple, Generic[ArrayT]):
    """tokens: int32 `[N, G]`, without masks. steps, forward_passes: int32 `[N]`, of each row."""

    tokens: ArrayT
    steps: ArrayT
    forward_passes: ArrayT


class SampledRows(NamedTuple):
    """Of each row, `[B, ...]`.

    sampled: so far. fixed: bool `[B, G]`, given tokens. memory: of the rule.
    block: int32, the present block; as many as there are blocks: the row is finished.
    block_step, masks: int32, steps done in the block and its masks when it began.
    """

    sampled: Sampled
    fixed: jax.Array
    memory: Any
    block: jax.Array
    block_step: jax.Array
    masks: jax.Array


@dataclasses.dataclass(frozen=True)
class SamplerDecider:
    """A sampler as a `Decider`. ends: bool `[V]`, the tokens that end a text."""

    sampler: Sampler
    ends: jax.Array
    settings: RolloutSettings

    @property
    def _blocks(self) -> jax.Array:
        """int32 `[G]`: the block of each position."""
        size = self.sampler.block_len or self.settings.gen_len
        return jnp.arange(self.settings.gen_len, dtype=jnp.int32) // size

    def begin(self, rows: tuple[Prompts, Any]) -> SampledRows:
        generated = Generated.start(rows[0], self.settings)
        zeros = jnp.zeros(generated.tokens.shape[0], jnp.int32)
        memory = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (len(zeros), *x.shape)),
            self.sampler.begin(self.settings.gen_len),
        )
        sampled = Sampled(generated.tokens, zeros, zeros)
        state = SampledRows(sampled, generated.fixed, memory, zeros - 1, zeros, zeros)
        return jax.vmap(self._next_block)(state)

    def tokens(self, state: SampledRows) -> jax.Array:
        return state.sampled.tokens

    def start(self, state: SampledRows) -> jax.Array:
        """int32 `[B]`: where the present block begins."""
        size = self.sampler.block_len or self.settings.gen_len
        return jnp.minimum(state.block * size, self.settings.gen_len - 1)

    def outcome(self, state: SampledRows) -> Sampled:
        return state.sampled

    def finished(self, state: SampledRows, step: jax.Array) -> jax.Array:
        return state.block >= self.sampler.blocks(self.settings.gen_len)

    def decide(
        self,
        rows: tuple[Prompts, Any],
        state: SampledRows,
        prediction: Prediction,
        step: jax.Array,
        active: jax.Array,
        asked: jax.Array,
    ) -> Decision:
        keys = reveal_keys(rows[0].keys, step)
        after, kept = jax.vmap(self.step_row)(state, prediction.tokens, keys, step, asked)
        return Decision(
            state=after,
            record=(),
            finished=self.finished(after, step + 1),
            prediction=prediction,
            fresh=kept,
            kept=kept,
            operator=None,
            passes=jnp.int32(0),
        )

    def step_row(
        self, row: SampledRows, proposal: Any, key: jax.Array, step: jax.Array, asked: jax.Array
    ) -> tuple[SampledRows, jax.Array]:
        """One row's step; also whether its next one needs no forward pass, bool `[]`."""
        settings, sampler = self.settings, self.sampler
        tokens = row.sampled.tokens
        masked, here = tokens == settings.mask_id, self._blocks == row.block
        steps = sampler.block_steps(row.block, settings)
        view = View(
            masked=masked & here,
            revealed=~masked & here & ~row.fixed,
            proposal=proposal,
            ends=self.ends[proposal.token],
            step=row.block_step,
            steps=steps,
            masks=row.masks,
            key=key,
            memory=row.memory,
        )
        move = sampler.step(view)
        # A block's last step reveals what is left of it, a row's all that is left.
        last_of_row = step == sampler.row_steps(settings) - 1
        last = last_of_row
        if sampler.shares_steps:
            last |= row.block_step == steps - 1
        reveal = jnp.where(last, masked & (here | last_of_row), move.reveal)
        after = jnp.where(reveal, proposal.token, tokens)
        if move.remask is not None:
            after = jnp.where(move.remask & ~last, settings.mask_id, after)
        left = (after == settings.mask_id) & here
        done = last | (~left.any() if move.done is None else move.done)
        row = row._replace(
            sampled=Sampled(after, row.sampled.steps + 1, row.sampled.forward_passes + asked),
            memory=move.memory,
            block_step=row.block_step + 1,
        )
        following = self._next_block(row)
        row = jax.tree.map(lambda x, y: jnp.where(done, x, y), following, row)
        return row, self._kept(row, tokens)

    def _kept(self, row: SampledRows, before: jax.Array) -> jax.Array:
        """bool `[]`: the next step needs no forward pass."""
        tokens = row.sampled.tokens
        # Nothing is proposed where nothing is masked.
        kept = ~((tokens == self.settings.mask_id) & (self._blocks == row.block)).any()
        if self.sampler.keeps_prediction and not self.settings.sees_step:
            kept |= (tokens == before).all()
        return kept

    def _next_block(self, row: SampledRows) -> SampledRows:
        """The row at the start of the next block that has a mask, if there is one."""
        masked = row.sampled.tokens == self.settings.mask_id
        blocks = self._blocks
        count = self.sampler.blocks(self.settings.gen_len)
        block = jnp.where(masked & (blocks > row.block), blocks, count).min()
        masks = (masked & (blocks == block)).sum(dtype=jnp.int32)
        return row._replace(block=block, block_step=jnp.zeros_like(row.block_step), masks=masks)


def reveal_keys(keys: jax.Array, step: jax.Array) -> jax.Array:
    """Of the rows' keys `[B]`, those with which they draw what their steps, int32 `[B]`, reveal."""
    return jax.vmap(jax.random.fold_in, (0, None))(step_keys(keys, step), StepStream.REVEAL)


def sample(
    denoise: DenoiseFn | KeepingDenoiser,
    prompts: Prompts,
    settings: RolloutSettings,
    sampler: Sampler,
    ends: jax.Array,
    slots: int | None = None,
    count: jax.Array | None = None,
    on_step: StepWatcher | None = None,
) -> tuple[Sampled, jax.Array]:
    """Denoises rows in a sampler's order; pure, for `jit`.

    Args:
      denoise: one forward pass, that draws and measures as `sampler.draw` says.
      prompts: `Prompts` `[N]`. settings: T and G; `Sampler.check` has passed them.
      sampler: the rule; its numbers may be traced. ends: bool `[V]`, the tokens that end a text.
      slots, count, on_step: as in `denoise_rows`.

    Returns:
      `Sampled`, and the forward passes that were made of all slots together, as in `Worked`.
    """
    decider = SamplerDecider(sampler, ends, settings)
    steps = sampler.row_steps(settings)
    worked = denoise_rows(
        denoise, decider, prompts, (), steps, slots, count, on_step, settings.together
    )
    return worked.outcomes, worked.passes
