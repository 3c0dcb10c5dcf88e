"""Merges a PEFT adapter into a converted backbone, as one that every command takes.

    python convert/peft_to_flax.py --adapter DIR --base checkpoints/mdlm-owt --output DIR
    python -m reoac_jax.evaluate --config FILE --config.backbone.path=DIR ...

The adapter is one that `flax_to_mdlm.py --peft` wrote or that `peft` saved for the same
architecture. The sum is float32 and stays so; `--dtype stored` rounds it to the base's format, half
the memory where that has 16 bits. To train it further as an overlay there is no need to merge it:
the configuration key `lora.adapter` names its folder. The last line of standard output is one JSON
object; bad input exits with 2 and leaves nothing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from reoac_jax.backbone import lora
from reoac_jax.backbone.peft import adapter_weights, read_adapter
from reoac_jax.backbone.published import in_format
from reoac_jax.backbone.store import (
    STORE_DTYPES,
    STORED,
    derived_source,
    read_backbone,
    read_source,
    save_backbone,
    tokenizer_files,
)
from reoac_jax.config import parse_options
from reoac_jax.devices.environment import check_devices, set_up_jax
from reoac_jax.runs.checksums import file_sha256
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import check_empty_folder


def main(argv: Sequence[str]) -> int:
    options = _parse(argv)
    set_up_jax()
    check_empty_folder(options.output)
    check_devices()
    config, base = read_backbone(options.base, STORED)
    adapter, weights = read_adapter(options.adapter, config), adapter_weights(options.adapter)
    overlay = jax.tree.map(jnp.asarray, adapter.overlay)
    dtype = options.dtype
    if dtype == STORED:
        dtype = read_source(options.base).get("dtype", "float32")
    # Whatever the base is stored in, a sum with the overlay is float32 and rounded once.
    merged = flatten_dict(lora.merge(base, overlay, adapter.scale), sep="/")
    del base
    params = unflatten_dict(
        {
            path: in_format(np.asarray(merged.pop(path)), STORE_DTYPES[dtype], path)
            for path in list(merged)
        },
        sep="/",
    )
    source = {
        "source": str(options.adapter),
        "weights": weights.name,
        "sha256": file_sha256(weights),
        "scale": adapter.scale,
        "dtype": dtype,
    } | derived_source(options.base)
    print("writing", file=sys.stderr)
    try:
        record = save_backbone(
            options.output, config, params, source=source, tokenizer=tokenizer_files(options.base)
        )
    except OSError as error:
        raise InputError(
            f"output {options.output} cannot be written: {error}; expected a place with room for it"
        ) from error
    report = {
        "matrices": len(adapter.overlay),
        "rank": adapter.rank,
        "scale": adapter.scale,
        "dtype": dtype,
        "sha256": record["sha256"],
        "base_hash": record["base_hash"],
        "backbone_hash": record["backbone_hash"],
        "output": str(options.output),
    }
    print(json.dumps(report))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--adapter", type=Path, required=True, help="folder of a PEFT adapter")
    parser.add_argument("--base", type=Path, required=True, help="folder of a converted backbone")
    parser.add_argument("--output", type=Path, required=True, help="new or empty folder")
    parser.add_argument(
        "--dtype",
        choices=(*STORE_DTYPES, STORED),
        default="float32",
        help=f"format of the folder's weights; {STORED}: the base's own (%(default)s)",
    )
    return parse_options(parser, argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
