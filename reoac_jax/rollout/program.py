"""Rollouts of any number of prompts: batches of bounded shapes, run on all devices."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from reoac_jax import sharding
from reoac_jax.arrays import ArrayT
from reoac_jax.backbone.model import Backbone, cast_for_compute
from reoac_jax.backbone.prediction import prompt_width
from reoac_jax.heads import AppliesHeads, HeadParams
from reoac_jax.rollout.loop import backbone_denoiser, rollout
from reoac_jax.rollout.types import (
    DenoiseFn,
    Prompts,
    Rollout,
    RolloutSettings,
    StepWatcher,
)
from reoac_jax.vocabulary import Vocabulary


class Question(NamedTuple):
    """One prompt on the host.

    tokens: int32 `[P_i]`. key_mask: bool `[P_i]`. row_id: all that is random in its row derives
    from the program's key and this number. given: int32 `[G]`, as in `Prompts`; None for nothing
    but masks, which is then so for all questions that are run together.
    """

    tokens: np.ndarray
    key_mask: np.ndarray
    row_id: int
    given: np.ndarray | None = None


class _Batch(NamedTuple, Generic[ArrayT]):
    tokens: ArrayT
    lengths: ArrayT
    key_mask: ArrayT
    row_ids: ArrayT
    given: ArrayT | None


# (denoise, head_params, prompts, vocabulary) -> a pytree with the batch axis in front; pure.
BatchFn = Callable[[DenoiseFn, HeadParams, Prompts, Vocabulary], Any]


class BatchedProgram:
    """A jitted function of prompts, with its tables on the devices.

    Compiles once for each padded prompt length, of which there are at most
    8 + max_prompt_len / 32, and batch size.
    """

    def __init__(
        self,
        run: BatchFn,
        model: Backbone,
        vocabulary: Vocabulary,
        settings: RolloutSettings,
        mesh: Mesh,
        batch_size: int,
    ):
        """run: what to do with a batch. batch_size: rows denoised together on one device."""
        self._model, self._settings, self._batch_fn = model, settings, run
        self._mesh = mesh
        self._batch_size = batch_size * mesh.size
        self._vocabulary = sharding.replicate(mesh, vocabulary)
        self._run = jax.jit(sharding.per_device(mesh, self._denoise, replicated=4))
        self._cast = jax.jit(functools.partial(cast_for_compute, dtype=model.dtype))

    def _denoise(
        self,
        params: Any,
        head_params: HeadParams,
        vocabulary: Vocabulary,
        key: jax.Array,
        batch: _Batch[jax.Array],
    ) -> Any:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch.row_ids)
        prompts = Prompts(batch.tokens, batch.lengths, batch.key_mask, keys, batch.given)
        denoise = backbone_denoiser(self._model, {"params": params}, prompts, self._settings)
        return self._batch_fn(denoise, head_params, prompts, vocabulary)

    def __call__(
        self,
        params: Any,
        head_params: Any,
        key: jax.Array,
        questions: Sequence[Question],
    ) -> Iterator[tuple[list[int], Any]]:
        """Runs every question, those of like length together.

        Args:
          params: the backbone's parameters, LoRA merged. head_params: of actor and critic.
          key: the key from which every row's key is derived by its `row_id`.

        Yields:
          Places in `questions`, and the results for them as host arrays, `[n, ...]` each.
        """
        params = self._cast(params)
        for places, batch in self._batches(questions):
            result = self._run(
                params, head_params, self._vocabulary, key, sharding.split(self._mesh, batch)
            )
            rows = slice(len(places))  # those beyond were repeated to fill the batch
            yield places, jax.tree.map(lambda x, rows=rows: x[rows], jax.device_get(result))

    def _batches(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[list[int], _Batch[np.ndarray]]]:
        size = min(self._batch_size, sharding.padded_size(self._mesh, len(questions)))
        order = sorted(range(len(questions)), key=lambda i: len(questions[i].tokens))
        for start in range(0, len(order), size):
            places = order[start : start + size]
            chosen = [questions[i] for i in places]
            longest = max(len(question.tokens) for question in chosen)
            width = prompt_width(longest)
            batch = _Batch(
                tokens=_pad_rows([q.tokens for q in chosen], width, np.int32),
                lengths=np.array([len(q.tokens) for q in chosen], np.int32),
                key_mask=_pad_rows([q.key_mask for q in chosen], width, bool),
                row_ids=np.array([q.row_id for q in chosen], np.uint32),
                given=None if chosen[0].given is None else np.stack([q.given for q in chosen]),
            )
            yield places, sharding.pad_batch(batch, size)


class RolloutProgram(BatchedProgram):
    """The rollout under the operator policy; yields `Rollout`s, steps `[n, T, ...]`."""

    def __init__(
        self,
        model: Backbone,
        heads: AppliesHeads,
        vocabulary: Vocabulary,
        settings: RolloutSettings,
        mesh: Mesh,
        batch_size: int,
        on_step: StepWatcher | None = None,
    ):
        """heads: the modules; batch_size: rows denoised together on one device.

        on_step: as `rollout` has it.
        """

        def run(
            denoise: DenoiseFn, head_params: HeadParams, prompts: Prompts, vocabulary: Vocabulary
        ) -> Rollout:
            apply = functools.partial(heads.apply, head_params)
            steps, tokens = rollout(denoise, apply, prompts, vocabulary, settings, on_step)
            return Rollout(jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps), tokens)

        super().__init__(run, model, vocabulary, settings, mesh, batch_size)


def in_order(batches: Iterable[tuple[list[int], Any]]) -> Any:
    """The results of all questions in one pytree, in the order they were asked."""
    places, results = zip(*batches, strict=True)
    order = np.argsort(np.concatenate(places))
    return jax.tree.map(lambda *x: np.concatenate(x)[order], *results)


def _pad_rows(rows: Sequence[np.ndarray], width: int, dtype: Any) -> np.ndarray:
    padded = np.zeros((len(rows), width), dtype)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return padded
