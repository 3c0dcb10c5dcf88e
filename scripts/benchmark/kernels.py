"""Pieces whose best form the device decides: attention's kernel, and how many logits at a time."""

import dataclasses
from collections.abc import Sequence
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmark import ours
from benchmark.measure import Program
from benchmark.workload import Workload
from reoac_jax.backbone import prediction
from reoac_jax.backbone.attention import Implementation, attention, choose_implementation
from reoac_jax.backbone.products import products


def attention_programs(
    workload: Workload, lengths: Sequence[int], tokens: int, dtype: str
) -> list[Program]:
    """Forward alone, and with its gradients, in each kernel that the device has.

    lengths: of the padded rows, of which a batch has so many that it holds `tokens`. Real rows are
    half as long to as long.
    """
    config, kind = workload.config, jnp.dtype(dtype)
    kernels: list[Implementation] = ["xla"]
    if choose_implementation("auto", kind, config.head_dim) == "cudnn":
        kernels.append("cudnn")
    programs = []
    for length in lengths:
        rows = max(1, tokens // length)
        keys = jax.random.split(jax.random.key(0), 3)
        shape = (rows, length, config.n_heads, config.head_dim)
        operands = [jax.random.normal(key, shape, kind) for key in keys]
        real = np.random.default_rng(0).integers(length // 2, length + 1, rows)
        for kernel in kernels:
            for backward in (False, True):
                programs.append(_attention(operands, real, kernel, backward))
    return programs


def _attention(
    operands: list[jax.Array], real: np.ndarray, kernel: Implementation, backward: bool
) -> Program:
    """operands: query, key and value `[B, L, heads, head_dim]`. real: `[B]`, keys that count."""
    rows, length, heads, head_dim = operands[0].shape
    lengths, dtype = jnp.asarray(real, jnp.int32), operands[0].dtype.name

    def forward(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        mixed = attention(query, key, value, lengths, kernel)
        inside = (jnp.arange(length) < lengths[:, None])[:, :, None, None]
        return jnp.where(inside, mixed, 0).astype(jnp.float32).sum()

    run = jax.jit(jax.value_and_grad(forward, argnums=(0, 1, 2)) if backward else forward)
    # Two products of the real queries with the real keys; the gradients take five more.
    needed = 4.0 * heads * head_dim * float(np.square(real, dtype=np.float64).sum())
    return Program(
        name=f"attention {kernel}, {length} tokens{', with gradients' if backward else ''}",
        run=lambda: float(jax.tree.leaves(jax.block_until_ready(run(*operands)))[0]),
        operations=needed * (3.5 if backward else 1.0),
        bytes=float(sum(x.nbytes for x in operands)) * (3 if backward else 1),
        rows=rows,
        dtype=dtype,
    )


def logits_programs(workload: Workload, sizes: Sequence[int], dtype: str) -> list[Program]:
    """A forward pass through one block, with so many logits at a time in the head."""
    config = dataclasses.replace(workload.config, n_blocks=1)
    workload = dataclasses.replace(workload, config=config)
    inputs = ours.make_inputs(workload)
    return [_with_logits(ours.forward_program(workload, inputs, dtype), size) for size in sizes]


def _with_logits(program: Program, size: int) -> Program:
    chosen = products()._replace(logits_at_a_time=size)

    def run() -> np.ndarray | float:
        # The first run traces the program, and so fixes the number in it.
        with mock.patch.object(prediction, "products", lambda: chosen):
            return program.run()

    name = f"one block and head, {size / 2**20:g} Mi logits at a time"
    return dataclasses.replace(program, name=name, run=run)
