"""Our programs over a random backbone: forward pass, rollout, updates."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.inputs import Inputs
from benchmark.measure import Program
from benchmark.workload import Workload, forward_operations, weight_bytes
from reoac_jax.backbone import Backbone
from reoac_jax.backbone.attention import choose_implementation
from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.backbone.prediction import assemble_rows, predict
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies.sampler import numbers_of, sampler_program
from reoac_jax.finetuning.examples import Examples
from reoac_jax.finetuning.step import Finetuner, FinetuneSettings
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.objectives.reference import Reference
from reoac_jax.learning.objectives.soft_q import SoftQ
from reoac_jax.learning.replay import BackboneBatch
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.learning.trainable import Full, Lora
from reoac_jax.policy.heads import Heads
from reoac_jax.policy.operators import OPERATOR_TYPES
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout import Request, RolloutProgram, RolloutSettings, in_order
from reoac_jax.samplers import SAMPLERS

_TRAINABLE = {"lora": Lora(2.0, (), 8), "full": Full()}


def forward_program(workload: Workload, inputs: Inputs, dtype: str) -> Program:
    """One forward pass with the head's statistics at the generated positions, rows padded alike."""
    model = model_of(workload, dtype)
    count, gen_len = workload.rows, workload.gen_len
    params = jax.jit(model.cast_for_compute)(inputs.params)
    rows, lengths = assemble_rows(
        inputs.prompt[:count], inputs.lengths[:count], inputs.generated[:count], 0
    )
    uniforms = jax.random.uniform(jax.random.key(0), (count, gen_len, 2))

    forward = forward_pass(model, gen_len)
    real = inputs.lengths[:count] + gen_len
    return Program(
        name=f"forward, ours {dtype}",
        run=lambda: np.asarray(forward(params, rows, lengths, uniforms)),
        operations=forward_operations(workload.config, real, gen_len),
        bytes=weight_bytes(workload.config, model.dtype.itemsize),
        rows=count,
        dtype=dtype,
        computed_tokens=float(rows.size),
        needed_tokens=float(real.sum()),
    )


def forward_pass(model: Backbone, gen_len: int) -> Any:
    """A jitted function of parameters, rows int32 `[B, L]`, their lengths int32 `[B]` and uniform
    numbers `[B, G, 2]` for the draw: statistics of the generated positions, `[B, G]`."""

    @jax.jit
    def forward(params: Any, rows: jax.Array, lengths: jax.Array, uniforms: jax.Array) -> jax.Array:
        variables = {"params": params}
        prepared = model.prepare(variables)
        draw = DrawSettings("sample", 1.0)
        view = predict(model, variables, prepared, rows, lengths, gen_len, uniforms, draw)
        return view.tokens.confidence + view.tokens.entropy

    return forward


def rollout_program(workload: Workload, inputs: Inputs, dtype: str) -> Program:
    """A whole rollout of `rows` requests under random heads; its rows are forward passes."""
    model, settings = model_of(workload, dtype), _rollout_settings(workload)
    config = workload.config
    heads = Heads.create((256, 256), (256, 256), config.hidden_dim, True, False, False, 5)
    head_params = jax.jit(heads.init)(jax.random.key(1))
    mesh = sharding.make_mesh(jax.devices()[:1])
    program = RolloutProgram(
        model, heads, _vocabulary(config.vocab_size), settings, mesh, workload.rows
    )
    params, requests = jax.tree.map(jnp.asarray, inputs.params), _requests(workload, inputs)
    key = jax.random.key(2)

    def run() -> np.ndarray:
        return in_order(program(params, head_params, key, requests)).steps.observation.alignment

    steps = in_order(program(params, head_params, key, requests)).steps
    name, passes = f"rollout, ours {dtype}", steps.forward_passes.sum(axis=1)
    return _denoising(name, run, workload, inputs, dtype, passes, program.tokens_computed)


def threshold_program(workload: Workload, inputs: Inputs, dtype: str) -> Program:
    """The threshold sampler on the same requests, in blocks of 32; its rows are forward passes.

    Random weights are sure of nothing, so that every pass reveals one token: its slowest case.
    """
    model, sampler = model_of(workload, dtype), SAMPLERS["threshold"]()
    settings = dataclasses.replace(
        _rollout_settings(workload), max_steps=workload.gen_len, use_hidden=False
    )
    program = sampler_program(
        sampler, model, _vocabulary(workload.config.vocab_size), settings,
        sharding.make_mesh(jax.devices()[:1]), workload.rows,
    )  # fmt: skip
    params, requests = jax.tree.map(jnp.asarray, inputs.params), _requests(workload, inputs)
    numbers, key = numbers_of(sampler), jax.random.key(2)
    passes = in_order(program(params, numbers, key, requests)).forward_passes
    computed = program.tokens_computed

    def run() -> np.ndarray:
        return in_order(program(params, numbers, key, requests)).tokens

    name = f"threshold sampler {dtype}"
    return _denoising(name, run, workload, inputs, dtype, passes, computed)


def _requests(workload: Workload, inputs: Inputs) -> list[Request]:
    return [
        Request(inputs.prompt[i, :length], np.arange(length) % 3 == 0, row_id=i)
        for i, length in enumerate(inputs.lengths[: workload.rows])
    ]


def _denoising(
    name: str,
    run: Callable[[], np.ndarray],
    workload: Workload,
    inputs: Inputs,
    dtype: str,
    passes: np.ndarray,
    computed: int,
) -> Program:
    """A program of forward passes. passes: int `[rows]`. computed: tokens, padding included."""
    config, real = workload.config, inputs.lengths[: workload.rows] + workload.gen_len
    operations = sum(
        int(count) * forward_operations(config, [length], workload.gen_len)
        for count, length in zip(passes, real, strict=True)
    )
    return Program(
        name=name,
        run=run,
        operations=operations,
        bytes=float(passes.max()) * weight_bytes(config, jnp.dtype(dtype).itemsize),
        rows=float(passes.sum()),
        dtype=dtype,
        computed_tokens=float(computed),
        needed_tokens=float((passes * real).sum()),
    )


def update_program(
    workload: Workload, inputs: Inputs, mode: str, dtype: str, remat: bool = False
) -> Program:
    """One backbone step of `update_rows` transitions, in mode lora or full, with dropout."""
    learner = learner_of(workload, mode, dtype, remat)
    settings, config = learner.settings, workload.config
    count, gen_len = workload.update_rows, workload.gen_len
    params = jax.tree.map(jnp.asarray, inputs.params)
    batch = jax.tree.map(jnp.asarray, transitions(workload, inputs, np.arange(count), gen_len))
    state = [learner.init(jax.random.key(3), params)]
    base = params if settings.trainable.keeps_base else None
    real = jnp.ones(count)
    del params  # mode full has taken them as its own
    key = jax.random.key(4)
    step = Learner.backbone_step.lower(learner, state[0], base, None, batch, real, key).compile()

    def run() -> float:
        state[0], metrics = step(state[0], base, None, batch, real, key)
        jax.block_until_ready(state[0])
        return float(metrics["backbone_loss"])

    tokens = inputs.lengths[:count] + gen_len
    # Forward, the gradient of the activations and, in mode full, that of the weights.
    passes = 2 if settings.trainable.keeps_base else 3
    return Program(
        name=f"{mode} update, ours {dtype}{', remat' if remat else ''}",
        run=run,
        operations=passes * forward_operations(config, tokens, gen_len),
        bytes=passes * float(weight_bytes(config, 4)),
        rows=count,
        dtype=dtype,
        computed_tokens=float(count * (inputs.prompt.shape[1] + gen_len)),
        needed_tokens=float(tokens.sum()),
        temporary_bytes=step.memory_analysis().temp_size_in_bytes,
    )


def learner_of(workload: Workload, mode: str, dtype: str, remat: bool = False) -> Learner:
    """With dropout, the original's objective, on one device."""
    config = workload.config
    model = model_of(workload, dtype).clone(dropout=0.1, remat=remat)
    heads = Heads.create((256, 256), (256, 256), config.hidden_dim, True, False, False, 5)
    settings = LearnerSettings(
        trainable=_TRAINABLE[mode], actor=SoftQ(), backbone=Reference(), actor_rate=1e-4,
        critic_rate=1e-4, backbone_rate=5e-6, backbone_accumulate=1,
        weight_decay=0.01, gradient_clip=1.0, fsdp=False,
    )  # fmt: skip
    mesh = sharding.make_mesh(jax.devices()[:1])
    return Learner(model, heads, _rollout_settings(workload), settings, mesh)


def transitions(
    workload: Workload, inputs: Inputs, rows: np.ndarray, columns: int
) -> BackboneBatch[np.ndarray]:
    """A minibatch of these rows, each of which wrote what is masked of its first `columns`."""
    count, generated = len(rows), inputs.generated[rows]
    return BackboneBatch(
        prompt=inputs.prompt[rows],
        prompt_length=inputs.lengths[rows],
        tokens=generated,
        position=np.tile(np.arange(columns, dtype=np.int32), (count, 1)),
        written=generated[:, :columns] == workload.config.mask_id,
        target=inputs.reference[rows, :columns],
        log_prob=np.zeros((count, columns), np.float32),
        advantage=np.linspace(0.1, 1.0, count, dtype=np.float32),
        step=np.zeros(count, np.int32),
    )


def supervised_program(workload: Workload, inputs: Inputs, dtype: str) -> Program:
    """One step of supervised fine-tuning of all weights, without dropout."""
    model, count, gen_len = model_of(workload, dtype), workload.update_rows, workload.gen_len
    settings = FinetuneSettings(
        trainable=Full(), steps=1000, accumulate=1, learning_rate=1e-5, warmup_steps=10,
        final_rate=0.1, weight_decay=0.01,
        beta2=0.99, gradient_clip=1.0, ema_decay=0.999, eos_weight=1.0,
        short_share=0.0, fsdp=False,
    )  # fmt: skip
    finetuner = Finetuner(model, 0, settings, sharding.make_mesh(jax.devices()[:1]))
    arrays = (inputs.prompt, inputs.lengths, inputs.reference)
    examples = Examples(*(jnp.asarray(x[:count]) for x in arrays))
    params = jax.tree.map(jnp.asarray, inputs.params)
    state = [finetuner.init(jax.random.key(5), params)]
    key, width = jax.random.key(6), inputs.prompt.shape[1]

    def run() -> float:
        step = finetuner.step(state[0], None, examples, key, jnp.int32(5))
        state[0] = jax.block_until_ready(step)
        return float(state[0].sums.loss)

    real = inputs.lengths[:count] + gen_len
    return Program(
        name=f"supervised step, ours {dtype}",
        run=run,
        operations=3 * forward_operations(workload.config, real, gen_len),
        bytes=3 * float(weight_bytes(workload.config, 4)),
        rows=count,
        dtype=dtype,
        computed_tokens=float(count * (width + gen_len)),
        needed_tokens=float(real.sum()),
    )


def products_program(workload: Workload, inputs: Inputs, dtype: str) -> Program:
    """The matrix products of that step's weights and nothing else: forward and both gradients."""
    config, count, gen_len = workload.config, workload.update_rows, workload.gen_len
    width, tokens = config.hidden_dim, count * (inputs.prompt.shape[1] + gen_len)
    block = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    sizes = [(tokens, *pair) for pair in block * config.n_blocks]
    sizes.append((count * gen_len, width, config.vocab_size))
    multiply = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)

    def operands(size: tuple[int, int, int], key: jax.Array) -> list[jax.Array]:
        rows, inner, outer = size
        shapes = ((rows, inner), (inner, outer), (rows, outer))
        keys = jax.random.split(key, 3)
        return [
            0.01 * jax.random.normal(k, s, jnp.dtype(dtype))
            for k, s in zip(keys, shapes, strict=True)
        ]

    keys = jax.random.split(jax.random.key(7), len(sizes))
    matrices = [operands(*item) for item in zip(sizes, keys, strict=True)]

    @jax.jit
    def products(matrices: list[list[jax.Array]]) -> list[jax.Array]:
        results = []
        for x, kernel, gradient in matrices:
            results += [multiply(x, kernel), multiply(gradient, kernel.T), multiply(x.T, gradient)]
        return results

    real = inputs.lengths[:count] + gen_len
    return Program(
        name=f"its matrix products alone {dtype}",
        run=lambda: float(jax.block_until_ready(products(matrices))[0][0, 0]),
        operations=3 * forward_operations(config, real, gen_len),
        bytes=3 * float(weight_bytes(config, 4)),
        rows=count,
        dtype=dtype,
    )


def model_of(workload: Workload, dtype: str) -> Backbone:
    compute = jnp.dtype(dtype)
    attention = choose_implementation("auto", compute, workload.config.head_dim)
    return Backbone(workload.config, dtype=compute, attention=attention)


def _rollout_settings(workload: Workload) -> RolloutSettings:
    names = ("O_NUM", "O_OP", "O_SCOPE", "O_BRANCH", "O_FAST")
    operators = tuple(OPERATOR_TYPES[name](threshold=1.0) for name in names)
    return RolloutSettings(
        max_steps=workload.steps, gen_len=workload.gen_len, mask_id=workload.config.mask_id,
        pad_id=0, update_rule="denoise", selection_mode="sample", draw=DrawSettings("sample", 1.0),
        empty_operator="mask", fallback_operator=2, repair_tokens=0, repair_threshold=0.5,
        branch=False, branch_steps=(), branch_k=0, cost_lambda=0.01, relation_temperature=1.0,
        use_hidden=True, extra_features=False, operator_preview=False, time_conditioned=False,
        sigma="masked_share", sigma_schedule="cosine", sigma_min=1e-4, sigma_max=1.0,
        operators=operators, scope_anchor="frontier",
    )  # fmt: skip


def _vocabulary(size: int) -> Vocabulary:
    """Random tables: their contents do not change what is computed."""
    rng = np.random.default_rng(1)
    ids = np.arange(size, dtype=np.int32)
    flags = {name: rng.random(size) < 0.1 for name in Vocabulary._fields if "_id" not in name}
    flags["is_special"] = ids == size - 1
    flags["is_eos"] = np.zeros(size, bool)
    number_id = np.where(rng.random(size) < 0.05, ids, -1).astype(np.int32)
    return Vocabulary(text_id=ids, folded_id=ids, number_id=number_id, **flags)
