"""Pieces whose best form the device decides: attention's kernel, and how many logits at a time."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmark import ours
from benchmark.inputs import make_inputs
from benchmark.measure import Program
from benchmark.workload import Workload
from reoac_jax.backbone import prediction
from reoac_jax.backbone.attention import Implementation, attention, choose_implementation
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.products import products


def attention_programs(
    workload: Workload, lengths: Sequence[int], tokens: int, dtype: str
) -> list[Program]:
    """Forward alone, and with its gradients, in each kernel that the device has.

    lengths: of the padded rows, of which a batch has so many that it holds `tokens`. Real rows are
    half as long to as long.
    """
    config, kind = workload.config, jnp.dtype(dtype)
    programs = []
    for length in lengths:
        rows = max(1, tokens // length)
        keys = jax.random.split(jax.random.key(0), 3)
        shape = (rows, length, config.n_heads, config.head_dim)
        operands = [jax.random.normal(key, shape, kind) for key in keys]
        real = np.random.default_rng(0).integers(length // 2, length + 1, rows)
        for kernel in kernels_here(config, kind):
            for backward in (False, True):
                programs.append(_attention(operands, real, kernel, backward))
    return programs


def kernels_here(config: BackboneConfig, dtype: Any) -> list[Implementation]:
    """Attention's kernels that the device has for these heads."""
    chosen = choose_implementation("auto", jnp.dtype(dtype), config.head_dim)
    return ["xla", "cudnn"] if chosen == "cudnn" else ["xla"]


def attention_pass(length: int, kernel: Implementation, backward: bool) -> Any:
    """A jitted function of query, key and value `[B, L, heads, head_dim]` and lengths int32 `[B]`:
    the sum of what attention makes of the real positions, and its gradients if `backward`."""

    def forward(
        query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array
    ) -> jax.Array:
        mixed = attention(query, key, value, lengths, kernel)
        inside = (jnp.arange(length) < lengths[:, None])[:, :, None, None]
        return jnp.where(inside, mixed, 0).astype(jnp.float32).sum()

    return jax.jit(jax.value_and_grad(forward, argnums=(0, 1, 2)) if backward else forward)


def _attention(
    operands: list[jax.Array], real: np.ndarray, kernel: Implementation, backward: bool
) -> Program:
    """operands: query, key and value `[B, L, heads, head_dim]`. real: `[B]`, keys that count."""
    rows, length, heads, head_dim = operands[0].shape
    lengths, dtype = jnp.asarray(real, jnp.int32), operands[0].dtype.name
    run = attention_pass(length, kernel, backward)
    # Two products of the real queries with the real keys; the gradients take five more.
    needed = 4.0 * heads * head_dim * float(np.square(real, dtype=np.float64).sum())
    return Program(
        name=f"attention {kernel}, {length} tokens{', with gradients' if backward else ''}",
        run=lambda: float(jax.tree.leaves(jax.block_until_ready(run(*operands, lengths)))[0]),
        operations=needed * (3.5 if backward else 1.0),
        bytes=float(sum(x.nbytes for x in operands)) * (3 if backward else 1),
        rows=rows,
        dtype=dtype,
    )


def logits_programs(workload: Workload, sizes: Sequence[int], dtype: str) -> list[Program]:
    """A forward pass through one block, with so many logits at a time in the head."""
    config = dataclasses.replace(workload.config, n_blocks=1)
    workload = dataclasses.replace(workload, config=config)
    inputs = make_inputs(workload)
    return [_with_logits(ours.forward_program(workload, inputs, dtype), size) for size in sizes]


@contextlib.contextmanager
def logits_at_a_time(size: int) -> Iterator[None]:
    """Inside, programs are traced with so many logits at a time in the head."""
    chosen = products()._replace(logits_at_a_time=size)
    with mock.patch.object(prediction, "products", lambda: chosen):
        yield


def _with_logits(program: Program, size: int) -> Program:
    def run() -> np.ndarray | float:
        with logits_at_a_time(size):  # the first run traces the program
            return program.run()

    name = f"one block and head, {size / 2**20:g} Mi logits at a time"
    return dataclasses.replace(program, name=name, run=run)
