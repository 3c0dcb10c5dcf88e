"""Rollouts of any number of prompts: batches of bounded shapes, run on all devices."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.backbone.interface import Denoiser
from reoac_jax.devices import sharding
from reoac_jax.devices.arrays import ArrayT
from reoac_jax.policy.heads import AppliesHeads, HeadParams
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout.grouping import Group, plan_groups
from reoac_jax.rollout.loop import KeepingBackbone, backbone_denoiser, rollout
from reoac_jax.rollout.settings import RolloutSettings
from reoac_jax.rollout.types import DenoiseFn, KeepingDenoiser, Prompts, Rollout, StepWatcher
from reoac_jax.tasks.problem_set import ProblemSet


class Request(NamedTuple):
    """One prompt on the host.

    tokens: int32 `[P_i]`. key_mask: bool `[P_i]`. row_id: all that is random in its row derives
    from the program's key and this number. given: int32 `[G]`, as in `Prompts`; None for nothing
    but masks, which is then so for all requests that are run together.
    """

    tokens: np.ndarray
    key_mask: np.ndarray
    row_id: int
    given: np.ndarray | None = None

    @classmethod
    def of(cls, problem_set: ProblemSet, index: int, row_id: int) -> "Request":
        """The prompt of a problem of a set."""
        encoded = problem_set.encoded
        return cls(encoded.prompt_tokens[index], encoded.key_mask[index], row_id)


class _Batch(NamedTuple, Generic[ArrayT]):
    """A group's queue `[N, ...]`, each device's share with its real rows first."""

    tokens: ArrayT
    lengths: ArrayT
    key_mask: ArrayT
    row_ids: ArrayT
    real: ArrayT
    given: ArrayT | None


class BatchResult(NamedTuple):
    """rows: pytree with the queue's axis `[N, ...]` in front. passes: int32 `[]` or, where keys and
    values are kept, `[1 + windows]` of those over whole rows and over each window, forward passes
    that were made of all slots together.
    """

    rows: Any
    passes: jax.Array


# How tokens are drawn, None for as configured -> one forward pass of the backbone, a `DenoiseFn`;
# with `RolloutSettings.windows` a `KeepingDenoiser`.
DenoiseWith = Callable[[DrawSettings | None], Any]
# (denoise_with, parameters of who decides, prompts [N], vocabulary, slots, count int32 []) ->
# BatchResult; pure.
BatchFn = Callable[[DenoiseWith, Any, Prompts, Vocabulary, int, jax.Array], BatchResult]


class BatchedProgram:
    """A jitted function of prompts, with its tables on the devices.

    Where `weights_in_parts`, the backbone's parameters are to lie in parts on the mesh; it may then
    span several processes, all of which make the same calls.

    Compiles once for each shape that `plan_groups` makes.

    Attributes:
      tokens_computed: tokens that the backbone has been run on so far, padding and idle slots
        included.
    """

    def __init__(
        self,
        run: BatchFn,
        model: Denoiser,
        vocabulary: Vocabulary,
        settings: RolloutSettings,
        mesh: Mesh,
        batch_size: int,
        queued: bool = True,
    ):
        """run: what to do with a group. batch_size: rows denoised together on one device.

        queued: as for `plan_groups`.
        """
        self.tokens_computed = 0
        self._model, self._settings, self._batch_fn = model, settings, run
        self._mesh = mesh
        self._batch_size = batch_size * mesh.size
        self._queued = queued and not settings.branch
        self._vocabulary = sharding.replicate(mesh, vocabulary)
        self._run = functools.cache(self._compiled_for)

    def _compiled_for(self, slots: int) -> Any:
        run = functools.partial(self._denoise, slots // self._mesh.size)
        # The program's name, as the compilation announces it.
        functools.update_wrapper(run, self._batch_fn)
        in_parts = self._settings.weights_in_parts
        return jax.jit(sharding.per_device(self._mesh, run, replicated=4, in_parts=in_parts))

    def _denoise(
        self,
        slots: int,
        params: Any,
        head_params: HeadParams,
        vocabulary: Vocabulary,
        key: jax.Array,
        batch: _Batch[jax.Array],
    ) -> BatchResult:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch.row_ids)
        prompts = Prompts(batch.tokens, batch.lengths, batch.key_mask, keys, batch.given)

        def gathered(after: Any) -> Any:
            return {"params": params.whole(after)}

        variables = gathered if isinstance(params, sharding.OwnParts) else {"params": params}

        def denoise_with(draw: DrawSettings | None) -> DenoiseFn | KeepingDenoiser:
            ends = jnp.asarray(vocabulary.is_eos)
            if self._settings.windows:
                own = self._settings.draw if draw is None else draw
                return KeepingBackbone(self._model, variables, self._settings, own, ends)
            return backbone_denoiser(self._model, variables, self._settings, draw, ends)

        count = batch.real.sum(dtype=jnp.int32)
        result = self._batch_fn(denoise_with, head_params, prompts, vocabulary, slots, count)
        return result._replace(passes=result.passes[None])  # one of each device

    def __call__(
        self, params: Any, head_params: Any, key: jax.Array, requests: Sequence[Request]
    ) -> Iterator[tuple[list[int], Any]]:
        """Runs every request, those of like length together.

        Args:
          params: the backbone's parameters, LoRA merged. head_params: of actor and critic.
          key: the key from which every row's key is derived by its `row_id`.

        Yields:
          Indices into `requests`, and the results for them as host arrays, `[n, ...]` each.
        """
        # Not under `jit`, which would copy what stays as it is: all of what is stored in 16 bits.
        params = self._model.cast_for_compute(params)
        for group in self._groups(requests):
            batch = self._batch(group, requests)
            result = self._run(group.slots)(
                params, head_params, self._vocabulary, key, sharding.split(self._mesh, batch)
            )
            rows, passes = sharding.to_host(result)
            of_kind = passes.reshape(len(passes), -1).sum(axis=0)
            tokens = [group.width + self._settings.gen_len]
            tokens += [width + self._model.spec.reads_left for width in self._settings.windows]
            slots = group.slots // len(passes)
            self.tokens_computed += slots * int(np.dot(of_kind.astype(np.int64), tokens))
            yield group.members, jax.tree.map(lambda x, real=batch.real: x[real], rows)

    def traced(
        self, params: Any, head_params: Any, key: jax.Array, requests: Sequence[Request]
    ) -> Iterator[jax.stages.Traced]:
        """What a call would run, traced and not compiled; all but the requests may be shapes."""
        params = jax.eval_shape(self._model.cast_for_compute, params)
        for group in self._groups(requests):
            batch = sharding.split(self._mesh, self._batch(group, requests))
            run = self._run(group.slots)
            yield run.trace(params, head_params, self._vocabulary, key, batch)

    def _groups(self, requests: Sequence[Request]) -> list[Group]:
        lengths = [len(request.tokens) for request in requests]
        return plan_groups(
            lengths, self._settings.gen_len, self._batch_size, self._mesh.size, self._queued
        )

    def _batch(self, group: Group, requests: Sequence[Request]) -> _Batch[np.ndarray]:
        """The group's queue; its members in order are its real rows in order."""
        chosen = [requests[i] for i in group.members]
        # Every device gets as many real rows as any other, or one less.
        shares = np.array_split(np.arange(len(chosen)), self._mesh.size)
        room = group.capacity // self._mesh.size
        rows = np.concatenate(
            [device * room + np.arange(len(share)) for device, share in enumerate(shares)]
        )
        batch = _Batch(
            tokens=np.zeros((group.capacity, group.width), np.int32),
            lengths=np.ones(group.capacity, np.int32),
            key_mask=np.zeros((group.capacity, group.width), bool),
            row_ids=np.zeros(group.capacity, np.uint32),
            real=np.zeros(group.capacity, bool),
            given=None,
        )
        if chosen[0].given is not None:
            filler = np.repeat(chosen[0].given[None], group.capacity, axis=0)
            batch = batch._replace(given=filler)
        for row, request in zip(rows, chosen, strict=True):
            length = len(request.tokens)
            batch.tokens[row, :length] = request.tokens
            batch.key_mask[row, :length] = request.key_mask
            batch.lengths[row] = length
            batch.row_ids[row] = request.row_id
            batch.real[row] = True
            if batch.given is not None:
                batch.given[row] = request.given
        return batch


class RolloutProgram(BatchedProgram):
    """The rollout under the operator policy; yields `Rollout`s, steps `[n, T, ...]`."""

    def __init__(
        self,
        model: Denoiser,
        heads: AppliesHeads,
        vocabulary: Vocabulary,
        settings: RolloutSettings,
        mesh: Mesh,
        batch_size: int,
        on_step: StepWatcher | None = None,
    ):
        """heads: the modules; batch_size: rows denoised together on one device.

        on_step: as `rollout` has it; every row then has its own slot.
        """

        def roll_out(
            denoise_with: DenoiseWith,
            head_params: HeadParams,
            prompts: Prompts,
            vocabulary: Vocabulary,
            slots: int,
            count: jax.Array,
        ) -> BatchResult:
            apply = functools.partial(heads.apply, head_params)
            result, passes = rollout(
                denoise_with(None), apply, prompts, vocabulary, settings, slots, count, on_step
            )
            steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), result.steps)
            return BatchResult(Rollout(steps, result.tokens), passes)

        super().__init__(
            roll_out, model, vocabulary, settings, mesh, batch_size, queued=on_step is None
        )


def run_rollout(
    model: Denoiser,
    params: Any,
    heads: AppliesHeads,
    head_params: Any,
    vocabulary: Vocabulary,
    settings: RolloutSettings,
    requests: Sequence[Request],
    key: jax.Array,
    batch_size: int = 32,
) -> Rollout[np.ndarray]:
    """Denoises requests under the operator policy, on all devices of this process.

    Whoever runs more than once makes a `RolloutProgram` and keeps it: this compiles anew.

    Args:
      model, params: as `load_backbone` gives them, LoRA merged. heads, head_params: actor and
        critic, and their parameters.
      vocabulary: of the tokenizer. settings: `Parts.rollout_settings(config)`.
      requests: N prompts. key: from which each row's key is derived by its `row_id`.
      batch_size: rows denoised together on one device.

    Returns:
      `Rollout`, steps `[N, T, ...]` and tokens int32 `[N, G]`, in the order of the requests.
    """
    mesh = sharding.make_mesh(jax.local_devices())
    program = RolloutProgram(model, heads, vocabulary, settings, mesh, batch_size)
    params, head_params = sharding.replicate(mesh, (params, head_params))
    return in_order(program(params, head_params, key, requests))


def in_order(batches: Iterable[tuple[list[int], Any]]) -> Any:
    """The results of all requests in one pytree, in the order they were asked."""
    indices, results = zip(*batches, strict=True)
    order = np.argsort(np.concatenate(indices))
    return jax.tree.map(lambda *x: np.concatenate(x)[order], *results)
