"""The keys of the backbone and of its LoRA overlay."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError

OPTIONS: Mapping[str, Option] = {
    "backbone.path": Option("str", "folder written by convert/to_flax.py", "checkpoints/mdlm-owt"),
    "backbone.dropout": Option(
        "float", "in the backbone's own update, never in rollouts", 0.1, low=0.0, high=0.9
    ),
    "backbone.compute_dtype": Option(
        "str",
        "dtype of the matrix products; auto: bfloat16 on GPU, else float32",
        "auto",
        choices=("auto", "float32", "bfloat16"),
    ),
    "backbone.param_dtype": Option(
        "str",
        "dtype of the weights in memory: float32, or stored, the folder's own, which takes half of "
        "it where that has 16 bits (for weights that are not trained: mode lora or frozen)",
        "float32",
        choices=("float32", "stored"),
    ),
    "backbone.attention": Option(
        "str",
        "attention kernel; auto: cudnn on GPU with bfloat16, else xla",
        "auto",
        choices=("auto", "xla", "cudnn"),
    ),
    "backbone.remat": Option(
        "str",
        "what the backward pass computes anew: none (faster), or each block's inside (an update "
        "keeps less in memory)",
        "none",
        choices=("none", "blocks"),
    ),
    "backbone.tokenizer_source": Option(
        "str",
        "whose tokenizer: auto (the one beside the weights) or mdlm (GPT-2's, with the model's "
        "mask)",
        "auto",
        choices=("mdlm", "auto"),
    ),
    "backbone.tokenizer_path": Option(
        "str", "hub id or local folder, read when tokenizer_source is mdlm", "gpt2"
    ),
    "lora.rank": Option("int", "rank of the overlay", 8, low=1, high=1024),
    "lora.alpha": Option(
        "float", "the overlay is scaled by alpha / rank", 16.0, low=1e-4, high=1e4
    ),
    "lora.dropout": Option("float", "dropout before the overlay", 0.0, low=0.0, high=0.9),
    "lora.targets": Option(
        "strs", "patterns over parameter paths; empty: attention's matrices", ()
    ),
    "lora.adapter": Option(
        "str", "none, or the folder of a PEFT adapter that the overlay starts from", "none"
    ),
}


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where the attention kernel does not take the dtype."""
    if values["backbone.attention"] == "cudnn" and values["backbone.compute_dtype"] == "float32":
        raise InputError(
            "backbone.attention is cudnn and backbone.compute_dtype float32; expected compute_dtype"
            " bfloat16 (all that kernel takes), or attention xla"
        )
