"""The published PyTorch layouts of the decoders and ours: which key is which parameter."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from reoac_jax.backbone.decoder.config import DecoderConfig
from reoac_jax.backbone.mdlm.published import STORED_DTYPES, Params, TensorFile, Weight
from reoac_jax.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class Names:
    """Where a layout keeps what; a block's names are behind `block.format(i)`.

    linears, norms: our name of a block's matrix or norm, and the published one.
    """

    embed: str
    block: str
    linears: Mapping[str, str]
    norms: Mapping[str, str]
    final_norm: str
    head: str


_LLADA = Names(
    embed="model.transformer.wte",
    block="model.transformer.blocks.{}",
    linears={
        "q_proj": "q_proj",
        "k_proj": "k_proj",
        "v_proj": "v_proj",
        "attn_out": "attn_out",
        "mlp_gate": "ff_proj",
        "mlp_up": "up_proj",
        "mlp_down": "ff_out",
    },
    norms={"attn_norm": "attn_norm", "mlp_norm": "ff_norm"},
    final_norm="model.transformer.ln_f",
    head="model.transformer.ff_out",
)
_QWEN2 = Names(
    embed="model.embed_tokens",
    block="model.layers.{}",
    linears={
        "q_proj": "self_attn.q_proj",
        "k_proj": "self_attn.k_proj",
        "v_proj": "self_attn.v_proj",
        "attn_out": "self_attn.o_proj",
        "mlp_gate": "mlp.gate_proj",
        "mlp_up": "mlp.up_proj",
        "mlp_down": "mlp.down_proj",
    },
    norms={"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"},
    final_norm="model.norm",
    head="lm_head",
)
_QWEN3 = dataclasses.replace(
    _QWEN2, norms={**_QWEN2.norms, "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
)
NAMES: Mapping[str, Names] = {
    "llada": _LLADA,
    "Dream": _QWEN2,
    "a2d-qwen2": _QWEN2,
    "a2d-qwen3": _QWEN3,
}


def weights(config: DecoderConfig) -> Iterator[Weight]:
    """Every parameter, block after block; the sizes come from the configuration alone."""
    names, d = NAMES[config.model_type], config.hidden_dim
    queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    sizes = {
        "q_proj": (queries, d),
        "k_proj": (keys, d),
        "v_proj": (keys, d),
        "attn_out": (d, queries),
        "mlp_gate": (config.mlp_dim, d),
        "mlp_up": (config.mlp_dim, d),
        "mlp_down": (d, config.mlp_dim),
        "attn_norm": (d,),
        "mlp_norm": (d,),
        "q_norm": (config.head_dim,),
        "k_norm": (config.head_dim,),
    }
    biased = ("q_proj", "k_proj", "v_proj") if config.qkv_bias else ()
    yield Weight(f"{names.embed}.weight", ("embed", "embedding"), (config.vocab_size, d))
    for i in range(config.n_blocks):
        ours, theirs = f"blocks_{i}", names.block.format(i)
        for name, key in names.norms.items():
            yield Weight(f"{theirs}.{key}.weight", (ours, name, "scale"), sizes[name])
        for name, key in names.linears.items():
            yield Weight(f"{theirs}.{key}.weight", (ours, name, "kernel"), sizes[name])
            if name in biased:
                yield Weight(f"{theirs}.{key}.bias", (ours, name, "bias"), sizes[name][:1])
    yield Weight(f"{names.final_norm}.weight", ("final_norm", "scale"), (d,))
    if not config.tied:
        yield Weight(f"{names.head}.weight", ("head", "kernel"), (config.vocab_size, d))


def tied_head_key(config: DecoderConfig) -> str | None:
    """The head's key that a file of a tied model may hold beside the embedding, equal to it."""
    return f"{NAMES[config.model_type].head}.weight" if config.tied else None


def check_layout(config: DecoderConfig, tensors: TensorFile, where: str) -> None:
    """Checks every key, shape and format before any weight is read.

    Raises:
      InputError: naming the first key that is unknown, missing, or of the wrong shape or format; or
        the head's, where the configuration ties it to an embedding that it does not equal.
    """
    expected = {weight.key: weight.shape for weight in weights(config)}
    spare = tied_head_key(config)
    for key in tensors.shapes:
        if key not in expected and key != spare:
            raise InputError(
                f"{where}: unknown key {key}; expected only the {len(expected)} keys of "
                f"{config.model_type} with {config.n_blocks} blocks"
            )
    for key, shape in expected.items():
        if key not in tensors.shapes:
            raise InputError(f"{where}: key {key} is missing; expected shape {list(shape)}")
        if tuple(tensors.shapes[key]) != shape:
            raise InputError(
                f"{where}: key {key} has shape {list(tensors.shapes[key])}; "
                f"expected {list(shape)} for this model's sizes"
            )
        if tensors.dtypes[key] not in STORED_DTYPES:
            raise InputError(
                f"{where}: key {key} is stored as {tensors.dtypes[key]}; "
                f"expected one of {', '.join(STORED_DTYPES)}"
            )
    if spare is not None and spare in tensors.shapes:
        embedding = f"{NAMES[config.model_type].embed}.weight"
        if not np.array_equal(tensors.read(spare), tensors.read(embedding)):
            raise InputError(
                f"{where}: key {spare} differs from {embedding}, though config.json ties the two; "
                "expected equal matrices, or none for the head"
            )


def to_flax(config: DecoderConfig, tensors: TensorFile, dtype: np.dtype) -> Iterator[
    tuple[Weight, np.ndarray]
]:  # fmt: skip
    """Our parameters one after another, so that no more than one need be in memory.

    Args:
      config: the model's sizes; `check_layout` must have passed with it.
      tensors: the checkpoint.
      dtype: format of the results.

    Yields:
      A weight and its array, kernels as [in, out].

    Raises:
      InputError: naming a tensor that holds NaN or infinity, or numbers too large for `dtype`.
    """
    for weight in weights(config):
        value = tensors.read(weight.key)
        if not np.isfinite(value).all():
            raise InputError(f"key {weight.key} holds NaN or infinity; expected finite weights")
        if weight.path[-1] == "kernel":
            value = value.T
        with np.errstate(over="ignore"):  # what becomes infinite is found below
            # A copy always: a view of a mapped file would keep the whole file in memory.
            converted = np.array(value, dtype=dtype, order="C")
        if not np.isfinite(converted).all():
            raise InputError(
                f"key {weight.key} holds numbers beyond {np.dtype(dtype).name}'s range; "
                "expected another --dtype"
            )
        yield weight, converted


def from_flax(config: DecoderConfig, params: Params) -> Iterator[tuple[Weight, np.ndarray]]:
    """The published tensors one after another, in the dtype in which each parameter is held.

    Raises:
      InputError: a parameter is missing or has the wrong shape.
    """
    for weight in weights(config):
        value: Any = params
        for name in weight.path:
            value = value[name] if name in value else None
            if value is None:
                raise InputError(f"parameter {'/'.join(weight.path)} is missing from the backbone")
        array = np.asarray(value)
        if array.shape != weight.flax_shape:
            raise InputError(
                f"parameter {'/'.join(weight.path)} has shape {list(array.shape)}; "
                f"expected {list(weight.flax_shape)}"
            )
        yield weight, np.ascontiguousarray(array.T if weight.path[-1] == "kernel" else array)


def tree(pairs: Iterator[tuple[Weight, np.ndarray]]) -> Params:
    """Parameters as nested dicts, the form that the module takes."""
    params: Params = {}
    for weight, value in pairs:
        branch = params
        for name in weight.path[:-1]:
            branch = branch.setdefault(name, {})
        branch[weight.path[-1]] = value
    return params
