"""Writes a random checkpoint of any size in a published PyTorch layout, for trying things out.

    python scripts/random_checkpoint.py --preset small --output /tmp/mdlm-small
    python scripts/random_checkpoint.py --preset owt --output /tmp/mdlm-owt      # 679 MB
    python scripts/random_checkpoint.py --preset small --vocab-size 500 --n-blocks 6 --output DIR
    python scripts/random_checkpoint.py --init training --preset small --output DIR   # to train on
    python scripts/random_checkpoint.py --architecture qwen3 --tokenizer FOLDER --output DIR
    python scripts/random_checkpoint.py --architecture qwen3 --preset published --dtype bfloat16 \
        --output DIR                                                              # 1.2 GB

With `--init everything` every weight is random, those too that the published initialisation
(`--init training`) sets to zero: with them no block of MDLM would change anything and a comparison
would prove nothing. The same seed and sizes give the same file. One tensor at a time is
in memory.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from reoac_jax.backbone.architectures import architecture, architecture_of
from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.published import PublishedWeight, parameter_count, weights
from reoac_jax.backbone.pytorch_files import TOKENIZER_FILES, write_published
from reoac_jax.backbone.safetensors_writer import Lazy
from reoac_jax.config import parse_options
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import check_empty_folder

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16),
          "float16": np.dtype(np.float16)}  # fmt: skip
_QWEN = {
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "hidden_act": "silu",
    "rope_theta": 1000000.0,
    "torch_dtype": "float32",
    "use_cache": False,
}
# What each published config.json says besides the sizes.
HEADERS: Mapping[str, Mapping[str, Any]] = {
    "mdlm": {"architectures": ["MDLM"], "model_type": "mdlm"},
    "qwen3": {
        "architectures": ["A2DQwen3LMHeadModel"],
        "model_type": "a2d-qwen3",
        **_QWEN,
        "attention_bias": False,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    },
    "dream": {
        "architectures": ["DreamModel"],
        "model_type": "Dream",
        **_QWEN,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
    "llada": {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "activation_type": "silu",
        "alibi": False,
        "attention_dropout": 0.0,
        "attention_layer_norm": False,
        "bias_for_layer_norm": False,
        "block_group_size": 1,
        "block_type": "llama",
        "embedding_dropout": 0.0,
        "include_bias": False,
        "include_qkv_bias": False,
        "input_emb_norm": False,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "multi_query_attention": None,
        "residual_dropout": 0.0,
        "rms_norm_eps": 1e-5,
        "rope": True,
        "rope_full_precision": True,
        "rope_theta": 500000.0,
        "scale_logits": False,
        "torch_dtype": "float32",
        "use_cache": False,
        "weight_tying": False,
    },
}
_QWEN_KEYS = {
    "vocab_size": "vocab_size",
    "model_length": "max_position_embeddings",
    "hidden_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "n_blocks": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
}
# The options that set a size, and the key of config.json that each one is.
KEYS: Mapping[str, Mapping[str, str]] = {
    "mdlm": {
        name: name
        for name in (
            "vocab_size", "model_length", "hidden_dim", "cond_dim", "n_blocks", "n_heads",
            "time_conditioning",
        )
    },
    "qwen3": {**_QWEN_KEYS, "head_dim": "head_dim"},
    "dream": _QWEN_KEYS,
    "llada": {
        "vocab_size": "vocab_size",
        "model_length": "max_sequence_length",
        "hidden_dim": "d_model",
        "mlp_dim": "mlp_hidden_size",
        "n_blocks": "n_layers",
        "n_heads": "n_heads",
        "n_kv_heads": "n_kv_heads",
    },
}  # fmt: skip
_SMALL = dict(
    vocab_size=272, model_length=128, hidden_dim=64, mlp_dim=176, n_blocks=3, n_heads=4,
    n_kv_heads=2,
)  # fmt: skip
_OWT = dict(
    vocab_size=50258, model_length=1024, hidden_dim=768, cond_dim=128, n_blocks=12, n_heads=12
)
PRESETS: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "mdlm": {
        "small": dict(
            vocab_size=131, model_length=48, hidden_dim=64, cond_dim=32, n_blocks=3, n_heads=4
        ),
        "owt": _OWT,
        "published": _OWT,
    },
    "qwen3": {
        "small": {**_SMALL, "head_dim": 32},
        "published": dict(
            vocab_size=151936, model_length=40960, hidden_dim=1024, mlp_dim=3072, n_blocks=28,
            n_heads=16, n_kv_heads=8, head_dim=128,
        ),
    },
    "dream": {
        "small": _SMALL,
        "published": dict(
            vocab_size=152064, model_length=131072, hidden_dim=3584, mlp_dim=18944, n_blocks=28,
            n_heads=28, n_kv_heads=4,
        ),
    },
    "llada": {
        "small": _SMALL,
        "published": dict(
            vocab_size=126464, model_length=4096, hidden_dim=4096, mlp_dim=12288, n_blocks=32,
            n_heads=32, n_kv_heads=32,
        ),
    },
}  # fmt: skip
PUBLISHED_MASKS = {"qwen3": 151669, "dream": 151666, "llada": 126336}
_SIZES = sorted({name for keys in KEYS.values() for name in keys} - {"time_conditioning"})

Draw = Callable[[PublishedWeight, np.random.Generator], np.ndarray]


def main(argv: Sequence[str]) -> int:
    options = _parse(argv)
    check_empty_folder(options.output)
    if options.seed < 0:
        raise InputError(f"--seed is {options.seed}; expected 0 or more")
    tokenizer: list[Path] = []
    if options.tokenizer is not None:
        tokenizer = [options.tokenizer / name for name in TOKENIZER_FILES]
        tokenizer = [file for file in tokenizer if file.is_file()]
        if not tokenizer:
            raise InputError(f"{options.tokenizer} holds no tokenizer file; expected one")
    values = config_values(options)
    config = architecture_of(values, "the options").read_config(values, "the options", tokenizer)
    draw = {"everything": random_weight, "training": training_weight}[options.init]
    tensors = RandomTensors(config, draw, options.seed, DTYPES[options.dtype])
    sha256 = write_published(
        options.output, config, tensors, tokenizer, shard_bytes=options.shard_bytes
    )
    report = {
        "parameters": parameter_count(config),
        "sha256": sha256,
        "seed": options.seed,
        "output": str(options.output),
    }
    print(json.dumps(report))
    return 0


def config_values(options: argparse.Namespace) -> dict[str, Any]:
    """The `config.json` that the options describe. Raises `InputError`."""
    kind = options.architecture
    keys, presets = KEYS[kind], PRESETS[kind]
    if options.preset not in presets:
        raise InputError(
            f"--preset is {options.preset} with --architecture {kind}; expected one of "
            f"{', '.join(presets)}"
        )
    sizes = dict(presets[options.preset])
    for name in (*_SIZES, "time_conditioning"):
        given = getattr(options, name)
        if given is None:
            continue
        if name not in keys:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} is no size of {kind}; it has {', '.join(keys)}")
        sizes[name] = given
    values = {**HEADERS[kind], **{keys[name]: value for name, value in sizes.items()}}
    if kind == "mdlm":
        return values
    if kind == "llada":
        values["embedding_size"] = values["vocab_size"]
    end = sizes["vocab_size"] - 1
    mask = options.mask_id
    if mask is None and options.preset == "published" and options.vocab_size is None:
        mask = PUBLISHED_MASKS[kind]
    if mask is not None or options.tokenizer is None:
        values["mask_token_id"] = end if mask is None else mask
    return values


class RandomTensors(Lazy):
    """The published tensors, drawn when they are asked for; each from a generator of its own."""

    def __init__(self, config: ModelConfig, draw: Draw, seed: int, dtype: np.dtype):
        self.dtype = dtype
        self._draw, self._seed = draw, seed
        self._weights = {weight.key: (i, weight) for i, weight in enumerate(weights(config))}
        self._buffers = architecture(config).buffers(config)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._weights, *self._buffers))

    def __len__(self) -> int:
        return len(self._weights) + len(self._buffers)

    def shape(self, key: str) -> tuple[int, ...]:
        return (
            self._buffers[key].value.shape if key in self._buffers else self._weights[key][1].shape
        )

    def __getitem__(self, key: str) -> np.ndarray:
        if key in self._buffers:
            return self._buffers[key].value.astype(self.dtype)
        i, weight = self._weights[key]
        return self._draw(weight, np.random.default_rng([self._seed, i])).astype(self.dtype)


def random_weight(weight: PublishedWeight, rng: np.random.Generator) -> np.ndarray:
    """Float32 in the published shape: norms near 1, biases near 0, variance kept by matrices."""
    scale = {"kernel": weight.shape[-1] ** -0.5, "embedding": 1.0}.get(weight.kind, 0.02)
    value = rng.standard_normal(weight.shape, dtype=np.float32)
    value *= np.float32(scale)
    if weight.kind == "scale":
        value += 1
    return value


def training_weight(weight: PublishedWeight, rng: np.random.Generator) -> np.ndarray:
    """Float32 in the published shape, as the published models begin their training.

    Norms are 1; MDLM's head and what scales, shifts and gates its blocks are 0; its matrices are
    uniform within 1/sqrt(inputs), as PyTorch's linear layers, the embedding as one of D inputs.
    Biases, which PyTorch draws too, are 0. The decoders' matrices are normal with deviation 0.02.
    """
    if weight.kind == "scale":
        return np.ones(weight.shape, np.float32)
    zero = "/adaln/" in weight.path or weight.path.startswith("final/linear/")
    if weight.kind == "bias" or zero:
        return np.zeros(weight.shape, np.float32)
    if weight.key.startswith("model."):
        return 0.02 * rng.standard_normal(weight.shape, dtype=np.float32)
    bound = weight.shape[-1] ** -0.5
    return rng.uniform(-bound, bound, weight.shape).astype(np.float32)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="new or empty folder")
    parser.add_argument("--architecture", choices=tuple(PRESETS), default="mdlm")
    parser.add_argument(
        "--preset",
        choices=("small", "owt", "published"),
        default="small",
        help="sizes; published: those of mdlm-owt, Qwen3-0.6B, Dream-7B, LLaDA-8B",
    )
    for name in _SIZES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="instead of the preset's")
    parser.add_argument("--time-conditioning", action="store_true", default=None)
    parser.add_argument("--mask-id", type=int, help="a decoder's mask (the last id)")
    parser.add_argument("--tokenizer", type=Path, help="folder whose tokenizer files are copied")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    parser.add_argument("--shard-bytes", type=int, default=5_000_000_000)
    parser.add_argument("--init", choices=("everything", "training"), default="everything")
    parser.add_argument("--seed", type=int, default=0)
    return parse_options(parser, argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
