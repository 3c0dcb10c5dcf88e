"""The LoRA steps of an iteration, minibatches cut as they were drawn or of like length."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.inputs import make_inputs
from benchmark.measure import Program
from benchmark.ours import learner_of, transitions
from benchmark.workload import Workload, forward_operations
from reoac_jax.learning.minibatches import like_length
from reoac_jax.learning.replay import crop_prompts

_MINIBATCHES = 8  # of an iteration of configs/gsm8k.py
_COLUMNS = 4  # positions that a step of it writes
_BLOCKS = 3  # of the backbone: padding's share of the work does not depend on their number


def updates_program(workload: Workload, dtype: str, like: bool) -> Program:
    """All steps of one iteration through few blocks. like: minibatches are cut by length."""
    rows = np.arange(_MINIBATCHES * workload.update_rows)
    blocks = min(_BLOCKS, workload.config.n_blocks)
    config = dataclasses.replace(workload.config, n_blocks=blocks)
    workload = dataclasses.replace(workload, config=config)
    own = make_inputs(dataclasses.replace(workload, update_rows=len(rows)))
    if like:
        batches = like_length(own.lengths[rows], _MINIBATCHES, np.random.default_rng(0))
    else:
        batches = np.array_split(rows, _MINIBATCHES)
    minibatches = [crop_prompts(transitions(workload, own, x, _COLUMNS)) for x in batches]
    learner, params = learner_of(workload, "lora", dtype), jax.tree.map(jnp.asarray, own.params)
    state, key = [learner.init(jax.random.key(3), params)], jax.random.key(4)

    def run() -> float:
        for batch in minibatches:
            counted = jnp.ones(len(batch.step))
            state[0], metrics = learner.backbone_step(state[0], params, None, batch, counted, key)
        jax.block_until_ready(state[0])
        return float(metrics["backbone_loss"])

    real = own.lengths[rows] + workload.gen_len
    return Program(
        name=f"{_MINIBATCHES} lora steps {'of like length' if like else 'as drawn'} {dtype}",
        run=run,
        operations=2 * forward_operations(workload.config, real, _COLUMNS),
        bytes=0.0,
        rows=len(rows),
        dtype=dtype,
        computed_tokens=float(sum(x.prompt.size + x.tokens.size for x in minibatches)),
        needed_tokens=float(real.sum()),
    )
