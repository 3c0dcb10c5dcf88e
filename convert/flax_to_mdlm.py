"""Writes a backbone back in the published PyTorch layout: model.safetensors and config.json.

    python convert/flax_to_mdlm.py --source checkpoints/mdlm-owt --output DIR
    python convert/flax_to_mdlm.py --checkpoint runs/EXP/TIME/checkpoints --output DIR

`--checkpoint` takes the backbone of a training run, its LoRA overlay merged into the weights.
Float32 weights that came through `mdlm_to_flax.py` come out bit-identical. The last line of
standard output is one JSON object; bad input exits with 2 and leaves nothing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reoac_jax.backbone.published import from_flax, parameter_count
from reoac_jax.backbone.pytorch_files import write_published
from reoac_jax.backbone.store import read_backbone, read_source, tokenizer_files
from reoac_jax.config import parse_options
from reoac_jax.errors import InputError, run_command
from reoac_jax.files import check_empty_folder
from reoac_jax.metrics import working
from reoac_jax.trained import restore_backbone


def main(argv: Sequence[str]) -> int:
    options = _parse(argv)
    check_empty_folder(options.output)
    with working("reading"):
        if options.source is not None:
            base = options.source
            config, params = read_backbone(base)
        else:
            config, params, base = restore_backbone(options.checkpoint)
    # Absent where the folder came from our own fine-tuning and not from a PyTorch file.
    stored = read_source(base).get("rotary_inv_freq")
    inv_freq = None if stored is None else np.asarray(stored, np.float32)
    tokenizer = tokenizer_files(base)
    print("writing", file=sys.stderr)
    tensors = from_flax(config, params, inv_freq)
    try:
        sha256 = write_published(options.output, config, tensors, tokenizer)
    except OSError as error:
        raise InputError(f"output {options.output} cannot be written: {error}") from error
    report = {
        "parameters": parameter_count(config),
        "source": str(options.source or options.checkpoint),
        "sha256": sha256,
        "dtype": "float32",
        "output": str(options.output),
    }
    print(json.dumps(report))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--source", type=Path, help="folder written by mdlm_to_flax.py")
    given.add_argument(
        "--checkpoint", type=Path, help="RUN_DIR/checkpoints or one iteration's folder in it"
    )
    parser.add_argument("--output", type=Path, required=True, help="new or empty folder")
    return parse_options(parser, argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
