"""Lowers every jitted program for CUDA, without a GPU, and looks at what is in it.

    python scripts/lower_for_cuda.py                                   # every configuration
    python scripts/lower_for_cuda.py --config configs/gsm8k.py --blocks 2 --output lowered.json

A shape, dtype, layout or length that cuDNN's attention refuses is refused here. Of each program it
is checked that attention is fused, as often as the backbone runs; that a bfloat16 program holds no
large float32 matrix product and computes nothing else in 16 bits; and that floating-point results
are float32. Nothing is compiled or run, and no weights are read. What only the card can show,
speed and numbers, `scripts/gpu_check.sh` asks it.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported

import reoac_jax  # noqa: E402, F401 - first: it says in one line what JAX refuses of the environment

# isort: split
import jax  # noqa: E402
from lowering.backbones import backbone_of  # noqa: E402
from lowering.contents import Contents, read  # noqa: E402
from lowering.programs import Case, programs  # noqa: E402
from lowering.stand_in import cuda_stood_in  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from reoac_jax.backbone.store import build_here  # noqa: E402
from reoac_jax.config import load_config, parse_command_line  # noqa: E402
from reoac_jax.system.errors import InputError, run_command  # noqa: E402
from reoac_jax.system.files import write_json  # noqa: E402

# Share of the largest bfloat16 product from which on a float32 product is one too large. Those that
# there are: the heads' (theirs is the precision of what they learn from few numbers, and of the
# ratios of their probabilities), of heads that see rows 0.4 %, and those of MDLM's modulation.
_LARGE = 0.01
_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# A model that was trained so turns queries and keys in the compute dtype.
_ROTATION = frozenset(f"stablehlo.{name}" for name in ("add", "multiply", "negate", "subtract"))


def main(argv: Sequence[str]) -> int:
    options, overrides = _parse(argv)
    paths = options.config or sorted(_CONFIGS.glob("*.py"))
    lowered, wrong = [], 0
    with cuda_stood_in():
        for path in paths:
            config = load_config(path, overrides)
            for record in lower_all(config, options.blocks, not options.no_policies):
                record = {"config": Path(path).stem, **record}
                lowered.append(record)
                wrong += bool(record["faults"])
                print(_line(record), flush=True)
    if options.output is not None:
        command = shlex.join(["python", "scripts/lower_for_cuda.py", *argv])
        result = {"command": command, "jax": jax.__version__, "programs": lowered}
        write_json(options.output, result)
    print(f"{len(lowered)} programs lowered for CUDA, {wrong} of them not as they should be")
    return int(wrong > 0)


def lower_all(config: ConfigDict, blocks: int | None, policies: bool) -> Any:
    """Yields what is found in each program of a configuration."""
    sizes = backbone_of(config, blocks)
    model = build_here(
        sizes, compute_dtype=config.backbone.compute_dtype, attention=config.backbone.attention
    )
    fused = sizes.spec.n_blocks if model.attention == "cudnn" else 0
    narrow = frozenset() if getattr(sizes, "rope_float32", True) else _ROTATION
    began = time.monotonic()
    for case in programs(config, sizes, policies):
        lowered = case.traced.lower(lowering_platforms=("cuda",))
        contents = read(lowered.compiler_ir("stablehlo"))
        yield {
            "program": case.name,
            "blocks": sizes.spec.n_blocks,
            "fused_forward": contents.forward,
            "fused_backward": contents.backward,
            "products": len(contents.products),
            "bfloat16_products": len(_of_type(contents, "bf16")),
            "largest_float32_share": largest_float32_share(contents),
            "faults": faults(case, contents, fused, narrow),
            "seconds": round(time.monotonic() - began, 2),
        }
        began = time.monotonic()


def faults(
    case: Case, contents: Contents, fused: int, narrow: frozenset[str] = frozenset()
) -> list[str]:
    """What is not as it should be, a sentence each.

    fused: attentions of a pass of the backbone. narrow: what may be computed in 16 bits.
    """
    found = []
    for kind, count, passes in (
        ("forward", contents.forward, case.forward),
        ("backward", contents.backward, case.backward),
    ):
        if count != passes * fused:
            found.append(f"{count} fused attentions {kind}; expected {passes * fused}")
    share = largest_float32_share(contents)
    if share >= _LARGE:
        largest = max(_of_type(contents, "f32"), key=lambda product: product.operations)
        found.append(f"a float32 product of {share:.1%} of the largest: {largest.shapes}")
    in_16_bits = {name: count for name, count in contents.narrow.items() if name not in narrow}
    if in_16_bits:
        found.append(f"computed in 16 bits: {in_16_bits}")
    if any(product.result not in ("f32", "i32") for product in contents.products):
        found.append("a matrix product whose sum is not float32")
    kinds = {
        str(x.dtype)
        for x in jax.tree.leaves(case.traced.out_info)
        if jax.dtypes.issubdtype(x.dtype, jax.numpy.floating)
    }
    if not case.casts and kinds - {"float32"}:
        found.append(f"results in {', '.join(sorted(kinds))}; expected float32")
    return found


def largest_float32_share(contents: Contents) -> float:
    """Operations of the largest float32 product in those of the largest bfloat16 product.

    0 in a program that has no bfloat16 products: it is a float32 program.
    """
    narrow = max((p.operations for p in _of_type(contents, "bf16")), default=0)
    wide = max((p.operations for p in _of_type(contents, "f32")), default=0)
    return wide / narrow if narrow else 0.0


def _of_type(contents: Contents, kind: str) -> list[Any]:
    """The products with at least one operand of a type, of mixed ones the wider."""
    if kind == "f32":
        return [p for p in contents.products if "f32" in p.operands]
    return [p for p in contents.products if p.operands == (kind, kind)]


def _line(record: dict[str, Any]) -> str:
    attention = f"{record['fused_forward']} + {record['fused_backward']} fused attentions"
    text = f"{record['config']}: {record['program']}: {record['products']} products, {attention}"
    return "; ".join([f"{text}, {record['seconds']:.1f} s", *record["faults"]])


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Sequence[str]]:
    parser = argparse.ArgumentParser(
        prog="python scripts/lower_for_cuda.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--config", action="append", help="a configuration, in place of all in configs/; repeatable"
    )
    parser.add_argument("--blocks", type=int, help="of the transformer, in place of its own")
    parser.add_argument("--no-policies", action="store_true", help="none but the actor's rollout")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options, overrides = parse_command_line(parser, argv)
    if options.blocks is not None and options.blocks < 1:
        raise InputError(f"--blocks is {options.blocks}; expected 1 or more")
    return options, overrides


if __name__ == "__main__":
    sys.exit(run_command(main))
