"""Bytes that a decoder of a published size takes, computed and as its compiled programs say.

    python scripts/model_memory.py --architecture qwen3 --rows 32 16 8 4 --output FILE.json

Compiles one forward pass of a rollout and the gradient of a LoRA update (each block computed anew
in the backward pass), for so many rows on one device, from shapes alone: nothing is run and no
weight exists. Prompts of 256 and texts of 256 tokens; weights and products in bfloat16, LoRA of
rank 8 on attention; XLA's own attention, whose scores exist in full, since the fused kernel cannot
be compiled without a GPU.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

# Before jax is imported. The machine code is not run, so it need not be good.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"

import reoac_jax  # noqa: E402, F401 - first: it says in one line what JAX refuses of the environment

# isort: split
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from random_checkpoint import HEADERS, KEYS, PRESETS, PUBLISHED_MASKS  # noqa: E402

from reoac_jax.backbone import lora  # noqa: E402
from reoac_jax.backbone.architectures import architecture_of, build  # noqa: E402
from reoac_jax.backbone.likelihood import reference_log_probs  # noqa: E402
from reoac_jax.backbone.prediction import DrawSettings, predict, rows_per_chunk  # noqa: E402
from reoac_jax.backbone.published import parameter_count  # noqa: E402
from reoac_jax.config import parse_options  # noqa: E402
from reoac_jax.system.errors import run_command  # noqa: E402
from reoac_jax.system.files import write_json  # noqa: E402

PROMPT, GENERATED, RANK = 256, 256, 8


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architecture", required=True, choices=tuple(PUBLISHED_MASKS))
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 16, 8, 4], metavar="N")
    parser.add_argument("--output", required=True, help="the JSON file to write")
    options = parse_options(parser, argv)
    model = published_model(options.architecture)
    results = []
    for rows in options.rows:
        results.append({"rows": rows, **computed(model, rows), **compiled(model, rows)})
        print(results[-1], flush=True)
    write_json(
        options.output,
        {
            "architecture": options.architecture,
            "parameters": parameter_count(model.config),
            "prompt": PROMPT,
            "generated": GENERATED,
            "results": results,
        },
    )
    return 0


def published_model(family: str) -> Any:
    """The module at its published size, in bfloat16, each block computed anew when trained."""
    sizes = PRESETS[family]["published"]
    values = {**HEADERS[family], **{KEYS[family][name]: size for name, size in sizes.items()}}
    values["mask_token_id"] = PUBLISHED_MASKS[family]
    if family == "llada":
        values["embedding_size"] = values["vocab_size"]
    config = architecture_of(values, family).read_config(values, family)
    return build(config, dtype=jnp.bfloat16, attention="xla", remat=True)


def computed(model: Any, rows: int) -> dict[str, int]:
    """Bytes by hand.

    weights: 2 a parameter. lora: weights, gradients and two moments in float32. residuals: what the
    backward pass keeps, each block's input in float32. scores: of one block's attention, float32.
    logits: of the rows that exist at a time, float32.
    """
    config, length = model.config, PROMPT + GENERATED
    overlay = jax.eval_shape(
        lambda params: lora.init(jax.random.key(0), params, model.lora_targets, RANK), shapes(model)
    )
    trained = sum(leaf.size for leaf in jax.tree.leaves(overlay))
    at_once = rows_per_chunk(rows, GENERATED, config.vocab_size)
    return {
        "weights": 2 * parameter_count(config),
        "lora": 16 * trained,
        "residuals": 4 * rows * length * config.hidden_dim * config.n_blocks,
        "scores": 4 * rows * config.n_heads * length**2,
        "logits": 4 * at_once * GENERATED * config.vocab_size,
    }


def compiled(model: Any, rows: int) -> dict[str, Any]:
    """What XLA says of the two programs: bytes of their arguments and of all that is in between."""
    params, overlay = shapes(model), None
    overlay = jax.eval_shape(
        lambda params: lora.init(jax.random.key(0), params, model.lora_targets, RANK), params
    )
    tokens = jax.ShapeDtypeStruct((rows, PROMPT + GENERATED), jnp.int32)
    lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
    written = jax.ShapeDtypeStruct((rows, GENERATED), jnp.int32)
    uniforms = jax.ShapeDtypeStruct((rows, GENERATED, 2), jnp.float32)

    def rollout_pass(params: Any, tokens: Any, lengths: Any, uniforms: Any) -> Any:
        variables = {"params": params}
        draw = DrawSettings("sample", 1.0)
        prepared = model.prepare(variables)
        return predict(model, variables, prepared, tokens, lengths, GENERATED, uniforms, draw)

    def update(overlay: Any, params: Any, tokens: Any, lengths: Any, written: Any) -> Any:
        def loss(overlay: Any) -> Any:
            variables = {"params": params, "lora": lora.collection(overlay, 2.0)}
            return reference_log_probs(model, variables, tokens, lengths, written).mean()

        return jax.grad(loss)(overlay)

    found: dict[str, Any] = {}
    for name, function, arguments in (
        ("rollout", rollout_pass, (params, tokens, lengths, uniforms)),
        ("update", update, (overlay, params, tokens, lengths, written)),
    ):
        began = time.monotonic()
        memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
        found[name] = {
            "argument_bytes": memory.argument_size_in_bytes,
            "temporary_bytes": memory.temp_size_in_bytes,
            "compile_seconds": round(time.monotonic() - began, 1),
        }
    return found


def shapes(model: Any) -> Any:
    """The parameters as shapes in bfloat16."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), model.parameter_shapes()
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
