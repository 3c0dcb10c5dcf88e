"""Writes a backbone for PyTorch: whole weights in the published layout, or a PEFT adapter.

    python convert/from_flax.py --source checkpoints/mdlm-owt --output DIR
    python convert/from_flax.py --checkpoint runs/EXP/TIME/checkpoints --output DIR [--peft]

`--checkpoint` takes the backbone of a training run, its LoRA overlay merged into the weights; with
`--peft` the overlay alone, as an adapter folder that `peft` loads onto the base. Weights that came
through `to_flax.py` come out bit-identical in the format that they were stored in; above 5 GB they
are cut into shards with an index. README.md beside the weights is a model card: what the run
records, and the scores of evaluations in the run's folder or given by `--eval`. The last line of
standard output is one JSON object; bad input exits with 2 and leaves nothing.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.peft import ADAPTER_WEIGHTS, BaseModel, write_adapter
from reoac_jax.backbone.published import from_flax, parameter_count
from reoac_jax.backbone.pytorch_files import write_published
from reoac_jax.backbone.safetensors_writer import SHARD_BYTES
from reoac_jax.backbone.store import (
    STORE_DTYPES,
    STORED,
    read_backbone,
    read_source,
    stored_buffers,
    tokenizer_files,
)
from reoac_jax.config import parse_options
from reoac_jax.convert import provenance
from reoac_jax.convert.model_card import CARD, RUN_CONFIG, model_card
from reoac_jax.devices.environment import check_devices, set_up_jax
from reoac_jax.learning.exported import restore_backbone, restore_overlay
from reoac_jax.runs.checksums import file_sha256
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import check_empty_folder, creating_folder, write_text
from reoac_jax.system.progress import working


def main(argv: Sequence[str]) -> int:
    options = _parse(argv)
    set_up_jax()
    check_empty_folder(options.output)
    check_devices()
    if options.shard_bytes < 1:
        raise InputError(f"--shard-bytes is {options.shard_bytes}; expected 1 or more")
    if options.peft and options.checkpoint is None:
        raise InputError("--peft needs --checkpoint: a converted backbone has no LoRA overlay")
    command = f"python -m reoac_jax.convert.from_flax {shlex.join(argv)}"
    try:
        report = _write_peft(options, command) if options.peft else _write_merged(options, command)
    except OSError as error:
        raise InputError(
            f"output {options.output} cannot be written: {error}; expected a place with room for it"
        ) from error
    report |= {"source": str(options.source or options.checkpoint), "output": str(options.output)}
    print(json.dumps(report))
    return 0


def _write_merged(options: argparse.Namespace, command: str) -> dict[str, Any]:
    with working("reading"):
        if options.source is not None:
            base = options.source
            config, params = read_backbone(base, STORED)
            known = provenance.of_backbone(base, options.eval)
        else:
            config, params, base = restore_backbone(options.checkpoint)
            known = provenance.of_checkpoint(options.checkpoint, base, options.eval)
    print("writing", file=sys.stderr)
    dtype = options.dtype
    if dtype is None:  # what was trained is float32 and stays so
        dtype = "float32" if options.source is None else read_source(base).get("dtype", "float32")
    tensors = from_flax(config, params, stored_buffers(base), STORE_DTYPES[dtype])
    sha256 = write_published(
        options.output,
        config,
        tensors,
        tokenizer_files(base),
        _texts(options, config, known, command),
        options.shard_bytes,
    )
    return {"parameters": parameter_count(config), "sha256": sha256, "dtype": dtype}


def _write_peft(options: argparse.Namespace, command: str) -> dict[str, Any]:
    config, adapter, base = restore_overlay(options.checkpoint)
    known = provenance.of_checkpoint(options.checkpoint, base, options.eval)
    if known.run is not None:
        adapter = adapter._replace(dropout=known.run.config["lora"]["dropout"])
    # The hub's model is the base only where nothing was trained in between.
    on_hub = known.hub_base if len(known.origins) == 1 else (None, None)
    print("writing", file=sys.stderr)
    with creating_folder(options.output) as folder:
        write_adapter(folder, config, adapter, BaseModel(*on_hub))
        for name, text in _texts(options, config, known, command).items():
            write_text(folder / name, text)
        sha256 = file_sha256(folder / ADAPTER_WEIGHTS)
    parameters = sum(x.size for pair in adapter.overlay.values() for x in pair.values())
    return {"parameters": parameters, "sha256": sha256, "dtype": "float32", "rank": adapter.rank}


def _texts(
    options: argparse.Namespace,
    config: ModelConfig,
    known: provenance.Provenance,
    command: str,
) -> dict[str, str]:
    """The model card and, where it is known, the run's configuration that the card names."""
    card = model_card(
        options.output.resolve().name, config, known,
        adapter=options.peft, export_command=command, licence=options.license,
    )  # fmt: skip
    texts = {CARD: card}
    if known.run is not None:
        texts[RUN_CONFIG] = json.dumps(known.run.config, indent=2, ensure_ascii=False) + "\n"
    return texts


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--source", type=Path, help="folder written by to_flax.py")
    given.add_argument(
        "--checkpoint", type=Path, help="RUN_DIR/checkpoints or one iteration's folder in it"
    )
    parser.add_argument("--output", type=Path, required=True, help="new or empty folder")
    parser.add_argument(
        "--peft", action="store_true", help="write the LoRA overlay as a PEFT adapter"
    )
    parser.add_argument(
        "--dtype",
        choices=tuple(STORE_DTYPES),
        help="of the weights (a converted folder's: as they are stored; a run's: float32)",
    )
    parser.add_argument(
        "--shard-bytes",
        type=int,
        default=SHARD_BYTES,
        metavar="N",
        help="weights above it are cut into shards with an index (%(default)s)",
    )
    parser.add_argument(
        "--eval", nargs="+", default=[], metavar="FILE",
        help="JSON files of reoac_jax.evaluate for the model card, of these weights",
    )  # fmt: skip
    parser.add_argument(
        "--license", metavar="ID", help="licence of the weights for the model card, e.g. apache-2.0"
    )
    return parse_options(parser, argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
