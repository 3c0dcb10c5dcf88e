"""What one iteration of training computes, sends and holds, read from the compiled programs.

    python scripts/scaling.py --config configs/gsm8k.py --output scaling.json [--devices 1 2 4 8]

Compiles the updates of the published backbone for 1 to 8 devices (those of this machine's CPU that
XLA pretends to have), for LoRA, for all weights, and for all weights in parts (FSDP). Each device
has the configuration's minibatches to itself, so the work grows with the devices. Nothing is run.
"""

import argparse
import functools
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

# Before jax is imported. The machine code is not run, so it need not be good.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)

import reoac_jax  # noqa: E402, F401 - first: it says in one line what JAX refuses of the environment

# isort: split
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from collectives import bytes_by_kind  # noqa: E402
from counting import matmul_flop  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from reoac_jax.backbone import Backbone, BackboneConfig  # noqa: E402
from reoac_jax.config import load_config, parse_command_line  # noqa: E402
from reoac_jax.devices import sharding  # noqa: E402
from reoac_jax.learning.learner import Learner, LearnerState  # noqa: E402
from reoac_jax.learning.parts import make_heads  # noqa: E402
from reoac_jax.learning.replay import BackboneBatch, HeadBatch  # noqa: E402
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.policy.heads import Heads  # noqa: E402
from reoac_jax.policy.vocabulary import Vocabulary  # noqa: E402
from reoac_jax.rollout import Prompts, Rollout, RolloutSettings  # noqa: E402
from reoac_jax.rollout.loop import backbone_denoiser, rollout  # noqa: E402
from reoac_jax.system.errors import run_command  # noqa: E402
from reoac_jax.system.files import write_json  # noqa: E402

PUBLISHED = BackboneConfig(50258, 1024, 768, 128, 12, 12)
MODES = {"lora": ("lora", False), "full": ("full", False), "full, fsdp": ("full", True)}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python scripts/scaling.py", description=__doc__)
    parser.add_argument("--config", required=True, help="whose sizes: configs/gsm8k.py")
    parser.add_argument("--output", required=True, help="the JSON file to write")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    options, overrides = parse_command_line(parser, argv)
    config = load_config(options.config, overrides)
    updates = []
    for name, (mode, fsdp) in MODES.items():
        for devices in options.devices:
            learner = published_learner(config, mode, fsdp, devices)
            updates.append({"mode": name, "devices": devices} | update_costs(learner, config))
            print(updates[-1], flush=True)
    result = {
        "command": shlex.join(["python", "scripts/scaling.py", *argv]),
        "config": options.config,
        "parameters": sum(math.prod(x.shape) for x in jax.tree.leaves(published_params())),
        "jax": jax.__version__,
        "rollout": rollout_costs(config),
        "updates": updates,
    }
    write_json(options.output, result)
    return 0


def published_model() -> Backbone:
    return Backbone(PUBLISHED, dropout=0.1)


def published_params() -> Any:
    """Shapes of the published backbone's parameters."""
    rows = jnp.zeros((1, 4), jnp.int32), jnp.full(1, 4, jnp.int32)
    return jax.eval_shape(published_model().init, jax.random.key(0), *rows)["params"]


def published_learner(config: ConfigDict, mode: str, fsdp: bool, devices: int) -> Learner:
    values = config.to_dict() | {"sharding": {"fsdp": fsdp}}
    values["backbone"]["finetune_mode"] = mode
    config = ConfigDict(values)
    heads = make_heads(config, published_model(), 50256)
    settings = RolloutSettings.from_config(
        config, mask_id=PUBLISHED.mask_id, pad_id=50256, time_conditioned=False
    )
    mesh = sharding.make_mesh(jax.devices()[:devices])
    return Learner(published_model(), heads, settings, LearnerSettings.from_config(config), mesh)


def update_costs(learner: Learner, config: ConfigDict) -> dict[str, Any]:
    """Of each kind of step: FLOP, bytes that each device sends, bytes that it holds."""
    train, mesh = config.train, learner.mesh
    params = published_params()
    state = jax.eval_shape(learner.init, jax.random.key(0), params)
    state = learner.place(state)
    keeps_base = learner.settings.trainable.keeps_base
    base = sharding.replicate(mesh, params) if keeps_base else None
    width, gen = config.rollout.max_prompt_len, config.rollout.gen_len

    def placed(batch: Any, size: int) -> Any:
        """A minibatch with what says that none of it is padding."""
        return sharding.split(mesh, (batch, jax.ShapeDtypeStruct((size,), np.float32)))

    count = train.backbone_batch * mesh.size
    rows = placed(backbone_rows(count, width, gen), count)
    count = train.head_batch * mesh.size
    transitions = placed(head_rows(count, learner.heads), count)
    key = jax.eval_shape(lambda: jax.random.key(0))
    steps = {
        "critic": (train.critic_steps, Learner.critic_step, transitions),
        "actor": (train.actor_steps, Learner.actor_step, transitions),
        "backbone": (train.backbone_steps, Learner.backbone_step, (base, None, *rows, key)),
    }
    return {
        name: {"steps_an_iteration": count} | step_costs(step, learner, state, arguments)
        for name, (count, step, arguments) in steps.items()
    }


def step_costs(step: Any, learner: Learner, state: LearnerState, arguments: tuple) -> dict:
    began = time.monotonic()
    program = step.lower(learner, state, *arguments).compile()
    memory = program.memory_analysis()
    jaxpr = jax.make_jaxpr(step, static_argnums=0)(learner, state, *arguments)
    return {
        "flop_per_device": matmul_flop(jaxpr) // learner.mesh.size,
        "collective_bytes": bytes_by_kind(program.as_text()),
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "compile_seconds": round(time.monotonic() - began, 1),
    }


def rollout_costs(config: ConfigDict) -> dict[str, Any]:
    """Of one row's forward pass, and of the record of one episode that goes to every process."""
    learner = published_learner(config, "lora", False, 1)
    settings, heads, model = learner.rollout, learner.heads, Backbone(PUBLISHED)
    shape, width = jax.ShapeDtypeStruct, config.rollout.max_prompt_len
    row = (
        shape((1, width), jnp.int32),
        shape((1,), jnp.int32),
        shape((1, width), bool),
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)),
    )
    vocabulary = Vocabulary(
        *(
            shape((PUBLISHED.vocab_size,), jnp.int32 if name.endswith("_id") else bool)
            for name in Vocabulary._fields
        )
    )

    def forward(params: Any, prompts: Prompts, generated: jax.Array) -> Any:
        denoise = backbone_denoiser(model, {"params": params}, settings)
        return denoise(prompts, generated, jnp.zeros(1, jnp.int32))

    def episode(params: Any, head_params: Any, tables: Vocabulary, prompts: Prompts) -> Rollout:
        denoise = backbone_denoiser(model, {"params": params}, settings)
        apply = functools.partial(heads.apply, head_params)
        return rollout(denoise, apply, prompts, tables, settings)[0]

    params, prompts = published_params(), Prompts(*row)
    generated = shape((1, settings.gen_len), jnp.int32)
    head_params = jax.eval_shape(heads.init, jax.random.key(0))
    record = jax.eval_shape(episode, params, head_params, vocabulary, prompts)
    branched = len(settings.branch_steps) * settings.branch_k
    return {
        "flop_of_a_forward_pass": matmul_flop(jax.make_jaxpr(forward)(params, prompts, generated)),
        "forward_passes_at_most": settings.max_steps + branched,
        "episodes_an_iteration": config.train.episodes_per_iter,
        "episode_bytes": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(record)),
    }


def backbone_rows(count: int, width: int, gen: int) -> BackboneBatch:
    row, integer = jax.ShapeDtypeStruct, np.int32
    return BackboneBatch(
        prompt=row((count, width), integer), prompt_length=row((count,), integer),
        tokens=row((count, gen), integer), position=row((count, gen), integer),
        written=row((count, gen), bool), target=row((count, gen), integer),
        log_prob=row((count, gen), np.float32), advantage=row((count,), np.float32),
        step=row((count,), integer),
    )  # fmt: skip


def head_rows(count: int, heads: Heads) -> HeadBatch:
    number, integer = (jax.ShapeDtypeStruct((count,), kind) for kind in (np.float32, np.int32))
    observation = jax.eval_shape(lambda: heads.example(count))
    decided = jax.ShapeDtypeStruct((count,), bool)
    legal = jax.ShapeDtypeStruct((count, heads.actor.outputs), bool)
    return HeadBatch(observation, integer, integer, legal, *[number] * 3, decided)


if __name__ == "__main__":
    sys.exit(run_command(main))
