"""Writes a random checkpoint of any size in the published PyTorch layout, for trying things out.

    python scripts/random_checkpoint.py --preset small --output /tmp/mdlm-small
    python scripts/random_checkpoint.py --preset owt --output /tmp/mdlm-owt      # 679 MB
    python scripts/random_checkpoint.py --preset small --vocab-size 500 --n-blocks 6 --output DIR
    python scripts/random_checkpoint.py --init training --preset small --output DIR   # to train on

With `--init everything` every weight is random, the modulation's too, which the published
initialisation (`--init training`) sets to zero: with zeros no block would change anything and a
comparison would prove nothing. The same seed and sizes give the same file. Holds one copy of the
weights in memory.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reoac_jax.backbone.attention import rotary_frequencies
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.mdlm.published import INV_FREQ_KEY
from reoac_jax.backbone.published import PublishedWeight, parameter_count, weights
from reoac_jax.backbone.pytorch_files import write_published
from reoac_jax.config import parse_options
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import check_empty_folder
from reoac_jax.system.progress import ProgressLine

PRESETS = {
    "small": BackboneConfig(
        vocab_size=131, model_length=48, hidden_dim=64, cond_dim=32, n_blocks=3, n_heads=4
    ),
    "owt": BackboneConfig(),
}
SIZES = ("vocab_size", "model_length", "hidden_dim", "cond_dim", "n_blocks", "n_heads")


def main(argv: Sequence[str]) -> int:
    options = _parse(argv)
    check_empty_folder(options.output)
    if options.seed < 0:
        raise InputError(f"--seed is {options.seed}; expected 0 or more")
    given = {name: getattr(options, name) for name in SIZES if getattr(options, name) is not None}
    config = BackboneConfig.from_json(
        dataclasses.asdict(PRESETS[options.preset])
        | given
        | {"time_conditioning": options.time_conditioning},
        "the options",
    )
    draw = {"everything": random_weight, "training": training_weight}[options.init]
    tensors = {}
    needed = list(weights(config))
    with ProgressLine(len(needed), "drawing", unit="tensor", after=2.0) as progress:
        for i, weight in enumerate(needed):
            tensors[weight.key] = draw(weight, np.random.default_rng([options.seed, i]))
            progress.update()
    tensors[INV_FREQ_KEY] = np.asarray(rotary_frequencies(config.head_dim))
    sha256 = write_published(options.output, config, tensors)
    report = {
        "parameters": parameter_count(config),
        "sha256": sha256,
        "seed": options.seed,
        "output": str(options.output),
    }
    print(json.dumps(report))
    return 0


def random_weight(weight: PublishedWeight, rng: np.random.Generator) -> np.ndarray:
    """Float32 in the published shape: norms near 1, biases near 0, variance kept by matrices."""
    scale = {"kernel": weight.shape[-1] ** -0.5, "embedding": 1.0}.get(weight.kind, 0.02)
    value = rng.standard_normal(weight.shape, dtype=np.float32)
    value *= np.float32(scale)
    if weight.kind == "scale":
        value += 1
    return value


def training_weight(weight: PublishedWeight, rng: np.random.Generator) -> np.ndarray:
    """Float32 in the published shape, as the published model begins its training.

    Norms are 1; modulation and head are 0; matrices are uniform within 1/sqrt(inputs), as PyTorch's
    linear layers, the embedding as one of D inputs. Biases, which PyTorch draws too, are 0.
    """
    if weight.kind == "scale":
        return np.ones(weight.shape, np.float32)
    if weight.kind == "bias" or "/adaln/" in weight.path or weight.path.startswith("final/linear/"):
        return np.zeros(weight.shape, np.float32)
    bound = weight.shape[-1] ** -0.5
    return rng.uniform(-bound, bound, weight.shape).astype(np.float32)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="new or empty folder")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="small")
    for name in SIZES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="instead of the preset's")
    parser.add_argument("--time-conditioning", action="store_true")
    parser.add_argument("--init", choices=("everything", "training"), default="everything")
    parser.add_argument("--seed", type=int, default=0)
    return parse_options(parser, argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
