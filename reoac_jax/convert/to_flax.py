"""Converts a published checkpoint (PyTorch) into the Orbax folder that `load_backbone` reads.

    python convert/to_flax.py --source OWNER/NAME --output DIR                # from the hub
    python convert/to_flax.py --source FOLDER --output DIR [--dtype bfloat16] [--verify]
    python convert/to_flax.py --source FILE.ckpt --ema --output DIR

`config.json` says which architecture it is: MDLM, LLaDA, Dream, or Qwen3 and Qwen2 as diffusion
models; a sharded checkpoint needs all of its shards. Progress goes to standard error; the last line
of standard output is one JSON object. Exit codes: 0, 1 (`--verify` found a difference above 1e-4;
nothing is left), 2 (bad input; nothing is left).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from reoac_jax.backbone.architectures import architecture
from reoac_jax.backbone.layout import TensorFile
from reoac_jax.backbone.published import check_layout, to_flax, weights
from reoac_jax.backbone.pytorch_files import (
    Checkpoint,
    find_source,
    open_source,
)
from reoac_jax.backbone.store import STORE_DTYPES, STORED, load_backbone, write_backbone
from reoac_jax.backbone.tensor_files import require_torch
from reoac_jax.config import parse_options
from reoac_jax.devices.environment import check_devices, set_up_jax
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import check_empty_folder, creating_folder
from reoac_jax.system.progress import ProgressLine

TOLERANCE = 1e-4
_VERIFY_ROWS, _VERIFY_LENGTH = 3, 48


class Difference(NamedTuple):
    """Largest absolute difference between PyTorch's forward and ours.

    hidden_scale: largest absolute hidden state. Float32 resolves 6e-8 of it, so that a difference
    in hidden states means little where this is in the hundreds.
    """

    logits: float
    hidden: float
    hidden_scale: float

    @property
    def is_small(self) -> bool:
        return self.logits <= TOLERANCE and self.hidden <= TOLERANCE


class DifferenceTooLarge(Exception):
    """Leaves the folder's context, so that a conversion that failed its check leaves nothing."""


def main(argv: Sequence[str], default_source: str | None = None) -> int:
    """The command. default_source: hub id for a command line without --source."""
    options = _parse(argv, default_source)
    set_up_jax()
    check_empty_folder(options.output)
    check_devices()
    if options.verify:
        require_torch("--verify")
    source = find_source(options.source, options.revision)

    def open_checkpoint() -> Checkpoint:
        return open_source(source, ema=options.ema, config_json=options.config_json)

    config, tensors, notes = open_checkpoint()
    for note in notes:
        print(note, file=sys.stderr)
    check_layout(config, tensors, str(source.weights))
    stored = sorted({tensors.dtypes[weight.key] for weight in weights(config)})
    dtype = options.dtype
    if dtype == STORED:
        dtype = stored[0] if len(stored) == 1 and stored[0] in STORE_DTYPES else "float32"
    if options.verify and dtype != "float32" and stored != [dtype]:
        raise InputError(
            f"--verify compares the file's own weights, which are {'+'.join(stored)}; --dtype is "
            f"{dtype}, expected one that does not round them"
        )
    print(f"reading {source.weights}", file=sys.stderr)
    record = {
        "source": source.name,
        "weights": source.weights.name,
        "sha256": source.sha256,
        "revision": source.revision,
        "ema": options.ema,
        "source_dtype": "+".join(stored),
        "dtype": dtype,
        "buffers": {
            key: tensors.read(key).tolist()
            for key in architecture(config).buffers(config)
            if key in tensors.shapes
        },
    }
    if shards := source.shards():
        record["shards"] = shards
    difference = None
    try:
        with creating_folder(options.output) as folder:
            params = to_flax(config, tensors, STORE_DTYPES[dtype], _progress)
            del tensors  # a pickle's mapped pages would stay resident while Orbax copies
            print("writing", file=sys.stderr)
            record = write_backbone(
                folder, config, params, source=record, tokenizer=source.tokenizer
            )
            del params
            if options.verify:
                print("comparing with PyTorch", file=sys.stderr)
                difference = compare(folder, open_checkpoint().tensors)
                if not difference.is_small:
                    raise DifferenceTooLarge
    except DifferenceTooLarge:
        print(
            f"error: outputs differ from PyTorch's by more than {TOLERANCE}; nothing was written",
            file=sys.stderr,
        )
    except OSError as error:
        raise InputError(
            f"output {options.output} cannot be written: {error}; expected a place with room for it"
        ) from error
    kept = (
        "parameters",
        "source",
        "weights",
        "sha256",
        "revision",
        "ema",
        "dtype",
        "backbone_hash",
    )
    report = {name: record[name] for name in kept} | {"output": str(options.output)}
    if difference is not None:
        report["verify"] = {
            "max_abs_diff_logits": difference.logits,
            "max_abs_diff_hidden": difference.hidden,
            "max_abs_hidden": difference.hidden_scale,
            "passed": difference.is_small,
        }
    print(json.dumps(report))
    return 0 if difference is None or difference.is_small else 1


def compare(folder: Path, tensors: TensorFile) -> Difference:
    """Runs a converted folder and the PyTorch reference on the same ragged random tokens.

    Ours runs the padded batch at once, PyTorch each row alone at its own length, so that padding is
    checked as well. Sigma is random; only a time-conditioned model sees it.
    """
    import torch

    model, params = load_backbone(folder, compute_dtype="float32", attention="xla")
    config, spec = model.config, model.spec
    rng = np.random.default_rng(0)
    longest = min(spec.context, _VERIFY_LENGTH)
    lengths = np.linspace(longest, max(1, longest // 3), _VERIFY_ROWS).astype(np.int32)
    tokens = rng.integers(spec.vocab_size, size=(_VERIFY_ROWS, longest), dtype=np.int32)
    sigma = rng.uniform(0.0, 3.0, _VERIFY_ROWS).astype(np.float32)

    ours = jax.jit(model.apply)({"params": params}, tokens, lengths, sigma)
    ours = [
        (np.asarray(ours.logits[b, :n]), np.asarray(ours.hidden[b, :n]))
        for b, n in enumerate(lengths)
    ]
    del params

    reference = architecture(config).reference(config, tensors)
    largest = [0.0, 0.0]
    with torch.inference_mode():
        for b, n in enumerate(lengths):
            row = torch.from_numpy(tokens[b : b + 1, :n]).long()
            theirs = reference(row, torch.from_numpy(sigma[b : b + 1]))
            for i in range(2):
                difference = np.abs(ours[b][i] - theirs[i][0].numpy()).max()
                largest[i] = max(largest[i], float(difference))
    scale = max(float(np.abs(hidden).max()) for _, hidden in ours)
    return Difference(logits=largest[0], hidden=largest[1], hidden_scale=scale)


def _progress(items: list) -> Iterator:
    with ProgressLine(len(items), "converting", unit="tensor") as progress:
        for item in items:
            yield item
            progress.update()


def _parse(argv: Sequence[str], default_source: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source",
        default=default_source,
        required=default_source is None,
        help="hub id, folder with model.safetensors or pytorch_model.bin (or their shards) and "
        "config.json, or a Lightning .ckpt"
        + ("" if default_source is None else " (default: %(default)s)"),
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--output", type=Path, required=True, help="new or empty folder")
    parser.add_argument("--ema", action="store_true", help="a .ckpt's averaged weights")
    parser.add_argument("--config-json", type=Path, help="sizes of a .ckpt without config.json")
    parser.add_argument(
        "--dtype",
        choices=(*STORE_DTYPES, STORED),
        default="float32",
        help=f"format of the folder's weights; {STORED}: the checkpoint's own (%(default)s)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare with a PyTorch forward; exit 1 above 1e-4"
    )
    return parse_options(parser, argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
