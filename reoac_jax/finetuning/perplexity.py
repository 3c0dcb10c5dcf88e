"""The perplexity of a text file under a backbone, as one line of JSON."""

import json
import math
import time

import numpy as np
from ml_collections import ConfigDict

from reoac_jax.devices import sharding
from reoac_jax.finetuning.nelbo import NelboProgram, text_blocks
from reoac_jax.learning.parts import adapted_base, load_parts
from reoac_jax.system.progress import ProgressLine, working

_TEXT_TOKENS_AT_A_TIME = 8192  # per device


def evaluate_text(config: ConfigDict, text: str) -> int:
    """NELBO and perplexity of a text file, printed as one line of JSON."""
    with working("loading the backbone"):
        parts = load_parts(config)
        blocks = text_blocks(text, parts.tokenizer, parts.model.spec.context)
    tokens = int(blocks.lengths.sum())
    print(f"{tokens} tokens in {len(blocks.blocks)} blocks, {blocks.documents} documents of {text}")
    mesh = sharding.make_mesh()
    rows = max(1, _TEXT_TOKENS_AT_A_TIME // blocks.blocks.shape[1])
    program = NelboProgram(
        parts.model, parts.tokenizer.eos_token_id, mesh, rows, config.sft.eval_samples, config.seed,
        config.sharding.fsdp,
    )  # fmt: skip
    params = sharding.place_parameters(mesh, adapted_base(config, parts), config.sharding.fsdp)
    began = time.monotonic()
    with ProgressLine(len(blocks.blocks), "measuring", unit="block") as progress:
        nats = program(params, blocks.answers(), progress.update)
    nelbo = nats.sum() / tokens
    errors = (nats - nelbo * blocks.lengths).std() * math.sqrt(len(nats)) / tokens
    report = {
        "text": text,
        "nelbo": float(nelbo),
        "perplexity": math.exp(nelbo),
        "nelbo_standard_error": float(errors),
        "tokens": tokens,
        "blocks": len(nats),
        "documents": blocks.documents,
        "samples": config.sft.eval_samples,
        "seed": config.seed,
        "backbone": config.backbone.path,
        "backbone_hash": parts.base_hash,
        "adapter": config.lora.adapter,
        "dtype": np.dtype(parts.model.dtype).name,
        "seconds": time.monotonic() - began,
    }
    print(json.dumps(report))
    return 0
