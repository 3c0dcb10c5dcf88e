"""Bytes that the published decoders take on each device, computed and as compiled programs say.

    python scripts/model_memory.py --blocks 2 4 --output benchmarks/model_memory.json
    python scripts/model_memory.py --architecture qwen3 --devices 8 --output FILE.json

A batch of 32 rows, prompts of 256 and texts of 256 tokens, is shared out among the devices; weights
lie whole on each, and once more, of several devices, in parts (`sharding.fsdp`). Of every share two
programs are compiled from shapes alone, a forward pass of a rollout and the gradient of a LoRA
update (each block computed anew in the backward pass): nothing is run and no weight exists. Weights
and products in bfloat16, LoRA of rank 8 on attention.
Compiling all blocks takes long; with `--blocks` models of so many blocks, and of the published
width, are compiled, and a line through the first and the last depth is followed to the published
one.

What is compiled is traced as for a GPU, but with XLA's own attention, whose scores exist in full:
the fused kernel cannot be compiled without a GPU. The compiler is XLA's for CPUs, told to spend
little memory and to leave what is computed anew apart from its first computation, as its compiler
for GPUs does. It multiplies in float32, and holds a matrix and its rows in that format meanwhile; a
GPU's does not.
"""

import argparse
import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

# Before jax is imported. The machine code is not run, so it need not be good. Merging equal
# computations would undo `remat`, whose barriers this compiler removes; and by default it orders
# for several cores to have work, not for memory.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_disable_hlo_passes=cse "
    "--xla_force_host_platform_device_count=8 "
    "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
)

import reoac_jax  # noqa: E402, F401 - first: it says in one line what JAX refuses of the environment

# isort: split
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from lowering.backbones import BACKBONES  # noqa: E402

from reoac_jax.backbone import lora, products  # noqa: E402
from reoac_jax.backbone.architectures import build  # noqa: E402
from reoac_jax.backbone.draw import DrawSettings  # noqa: E402
from reoac_jax.backbone.likelihood import reference_log_probs  # noqa: E402
from reoac_jax.backbone.module import DenoiserModule  # noqa: E402
from reoac_jax.backbone.prediction import predict, rows_per_chunk  # noqa: E402
from reoac_jax.backbone.published import parameter_count  # noqa: E402
from reoac_jax.config import parse_options  # noqa: E402
from reoac_jax.devices import sharding  # noqa: E402
from reoac_jax.system.errors import InputError, run_command  # noqa: E402
from reoac_jax.system.files import write_json  # noqa: E402
from reoac_jax.system.progress import working  # noqa: E402

FAMILIES = ("qwen3", "dream", "llada")
PROMPT, GENERATED, RANK = 256, 256, 8


def main(argv: Sequence[str]) -> int:
    options = _parse(argv)
    # As a GPU has it: plain products, and as many logits at a time.
    with mock.patch.object(products, "CPU", products.PLAIN):
        products.products.cache_clear()
        models = {family: published_model(family) for family in options.architecture}
        report = _report(argv, options, models)
        write_json(options.output, report)
        for record in report["models"] if not options.only_computed else ():
            model = models[record["architecture"]]
            for share in record["devices"]:
                given = model, share["rows"], options.blocks
                if not options.only_in_parts:
                    share["compiled"] = dict(compiled(*given))
                if share["devices"] > 1:
                    share["compiled_in_parts"] = dict(compiled(*given, share["devices"]))
                print(record["architecture"], share, flush=True)
                # After each: whoever stops it early keeps what it has found.
                write_json(options.output, report)
    products.products.cache_clear()
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architecture", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    parser.add_argument("--batch", type=int, default=32, help="rows of all devices together (32)")
    parser.add_argument(
        "--blocks", type=int, nargs="+", metavar="N", help="depths to compile (the published one)"
    )
    parser.add_argument("--only-computed", action="store_true", help="compile nothing")
    parser.add_argument(
        "--only-in-parts", action="store_true", help="do not compile what has whole weights"
    )
    parser.add_argument("--output", required=True, help="the JSON file to write")
    options = parse_options(parser, argv)
    for devices in options.devices:
        if devices < 1 or options.batch < 1 or options.batch % devices:
            raise InputError(
                f"--devices has {devices} with --batch {options.batch}; expected numbers that "
                "divide it"
            )
    blocks = options.blocks
    if blocks is not None and (min(blocks) < 1 or blocks[0] == blocks[-1]):
        raise InputError(f"--blocks is {blocks}; expected two different numbers, or more")
    return options


def _report(
    argv: Sequence[str], options: argparse.Namespace, models: Mapping[str, DenoiserModule]
) -> dict[str, Any]:
    """What is written, before anything is compiled."""
    return {
        "command": shlex.join(["python", "scripts/model_memory.py", *argv]),
        "jax": jax.__version__,
        "compiler": "XLA, CPU",
        "attention": "xla",
        "batch": options.batch,
        "prompt": PROMPT,
        "generated": GENERATED,
        "lora_rank": RANK,
        "models": [
            {
                "architecture": family,
                "parameters": parameter_count(model.config),
                "devices": [
                    {"devices": count, "rows": rows, "computed": computed(model, rows, count)}
                    for count in options.devices
                    for rows in (options.batch // count,)
                ],
            }
            for family, model in models.items()
        ],
    }


def published_model(family: str) -> DenoiserModule:
    """The module at its published size, in bfloat16, each block computed anew when trained."""
    return build(BACKBONES[family], dtype=jnp.bfloat16, attention="xla", remat=True)


def computed(model: Any, rows: int, devices: int = 1) -> dict[str, int]:
    """Bytes on a device by hand, of so many rows.

    weights: 2 a parameter. weights_in_parts: a device's share of them. gathered: of these, whole at
    a time at least, the largest matrix. lora: weights, gradients and two moments in float32.
    merged: the matrices that a rollout merges the overlay into, beside the base's. residuals: what
    the backward pass keeps, each block's input in float32. scores: of one block's attention in
    float32, which the fused kernel has not. logits: of the rows that exist at a time, float32.
    """
    config, length = model.config, PROMPT + GENERATED
    params, overlay = _shapes(model)
    trained = sum(leaf.size for leaf in jax.tree.leaves(overlay))
    targets = lora.target_paths(params, model.lora_targets)
    at_once = rows_per_chunk(rows, GENERATED, config.vocab_size)
    return {
        "weights": 2 * parameter_count(config),
        "weights_in_parts": 2 * parameter_count(config) // devices,
        "gathered": 2 * max(leaf.size for leaf in jax.tree.leaves(params)),
        "lora": 16 * trained,
        "merged": 2 * sum(_leaf(params, path).size for path in targets),
        "residuals": 4 * rows * length * config.hidden_dim * config.n_blocks,
        "scores": 4 * rows * config.n_heads * length**2,
        "logits": 4 * at_once * GENERATED * config.vocab_size,
    }


def compiled(
    model: Any, rows: int, blocks: Sequence[int] | None = None, parts: int = 1
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What XLA says of the two programs: bytes of all that exists at once beside their arguments.

    rows: of each device. parts: devices that the weights are parted among.
    blocks: depths that are compiled, instead of the published one. `by_blocks` holds what each
    needs, `temporary` where the line through the first and the last one has the published depth.
    """
    depth = model.config.n_blocks
    for program in ("forward", "gradient"):
        found, began = {}, time.monotonic()
        for count in blocks or (depth,):
            config = dataclasses.replace(model.config, n_blocks=count)
            one = model.clone(config=config)
            made = (
                _program(program, one, rows) if parts == 1 else _parted(program, one, rows, parts)
            )
            function, arguments = made
            with working(f"compiling the {program} of {rows} rows and {count} blocks"):
                memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
            found[count] = memory.temp_size_in_bytes
        temporary = found[next(iter(found))]
        if blocks:
            slope = (found[blocks[-1]] - found[blocks[0]]) / (blocks[-1] - blocks[0])
            temporary = round(found[blocks[0]] + slope * (depth - blocks[0]))
        yield (
            program,
            {
                "temporary": temporary,
                "by_blocks": found,
                "seconds": round(time.monotonic() - began, 1),
            },
        )


def _program(program: str, model: Any, rows: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A function and the shapes of its arguments."""
    params, overlay = _shapes(model)
    tokens = jax.ShapeDtypeStruct((rows, PROMPT + GENERATED), jnp.int32)
    lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
    written = jax.ShapeDtypeStruct((rows, GENERATED), jnp.int32)
    uniforms = jax.ShapeDtypeStruct((rows, GENERATED, 2), jnp.float32)

    def forward(params: Any, tokens: Any, lengths: Any, uniforms: Any) -> Any:
        variables = {"params": params}
        draw = DrawSettings("sample", 1.0)
        prepared = model.prepare(variables)
        return predict(model, variables, prepared, tokens, lengths, GENERATED, uniforms, draw)

    def gradient(overlay: Any, params: Any, tokens: Any, lengths: Any, written: Any) -> Any:
        def loss(overlay: Any) -> Any:
            variables = {"params": params, "lora": lora.collection(overlay, 2.0)}
            return reference_log_probs(model, variables, tokens, lengths, written).mean()

        return jax.grad(loss)(overlay)

    if program == "forward":
        return forward, (params, tokens, lengths, uniforms)
    return gradient, (overlay, params, tokens, lengths, written)


def _parted(
    program: str, model: Any, rows: int, parts: int
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """As `_program`, of weights in parts: so many rows on each of `parts` devices."""
    mesh = sharding.make_mesh(jax.devices()[:parts])
    params, overlay = _shapes(model)
    params = sharding.split_parameters(mesh, params)

    def each(*shape: int, kind: Any = jnp.int32) -> Any:
        return sharding.split(mesh, jax.ShapeDtypeStruct((parts * rows, *shape), kind))

    tokens, lengths = each(PROMPT + GENERATED), each()

    def forward(own: sharding.OwnParts, tokens: Any, lengths: Any, uniforms: Any) -> Any:
        variables = {"params": own.whole(tokens)}
        draw = DrawSettings("sample", 1.0)
        prepared = model.prepare(variables)
        return predict(model, variables, prepared, tokens, lengths, GENERATED, uniforms, draw)

    def gradient(overlay: Any, params: Any, tokens: Any, lengths: Any, written: Any) -> Any:
        def loss(overlay: Any) -> Any:
            whole, overlay = sharding.gather_parameters(mesh, (params, overlay))
            variables = {"params": whole, "lora": lora.collection(overlay, 2.0)}
            return reference_log_probs(
                model, variables, tokens, lengths, written, shares=parts
            ).mean()

        return jax.grad(sharding.gathering_again(loss))(overlay)

    if program == "forward":
        function = sharding.per_device(mesh, forward, replicated=1, in_parts=True)
        return function, (params, tokens, lengths, each(GENERATED, 2, kind=jnp.float32))
    overlay = sharding.split_parameters(mesh, overlay)
    return gradient, (overlay, params, tokens, lengths, each(GENERATED))


def _shapes(model: Any) -> tuple[Any, Any]:
    """The parameters in bfloat16 and an overlay in float32, as shapes."""
    params = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), model.parameter_shapes()
    )
    overlay = jax.eval_shape(
        lambda params: lora.init(jax.random.key(0), params, model.lora_targets, RANK), params
    )
    return params, overlay


def _leaf(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree


if __name__ == "__main__":
    sys.exit(run_command(main))
