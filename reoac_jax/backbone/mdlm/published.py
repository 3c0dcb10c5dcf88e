"""The published PyTorch layout of MDLM and ours: which key is which parameter, both ways."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from reoac_jax.backbone.attention import rotary_frequencies
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.system.errors import InputError

INV_FREQ_KEY = "backbone.rotary_emb.inv_freq"
SINUSOID_WIDTH = 256
MLP_RATIO = 4
# The model's code stays on the hub, so that a folder written by us loads with `transformers`.
PUBLISHED_HEADER = {
    "architectures": ["MDLM"],
    "model_type": "mdlm",
    "torch_dtype": "float32",
    "auto_map": {
        "AutoConfig": "kuleshov-group/mdlm-owt--configuration_mdlm.MDLMConfig",
        "AutoModelForMaskedLM": "kuleshov-group/mdlm-owt--modeling_mdlm.MDLM",
    },
    "return_dict": False,
}
# Relative spacing of the formats a checkpoint may be stored in; every other format is refused.
STORED_DTYPES = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}

Params = dict[str, Any]
Progress = Callable[[list["Weight"]], Iterable["Weight"]]


class Weight(NamedTuple):
    """One parameter.

    key: its name in the published state dict.
    path: its place in our tree; a `kernel` is the published matrix transposed, [in, out].
    shape: its published shape.
    """

    key: str
    path: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def flax_shape(self) -> tuple[int, ...]:
        return self.shape[::-1] if self.path[-1] == "kernel" else self.shape


class TensorFile(Protocol):
    """A checkpoint's tensors by published key, each read when asked for.

    shapes: key to shape. dtypes: key to the stored format's name.
    """

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def dtypes(self) -> Mapping[str, str]: ...

    def read(self, key: str) -> np.ndarray:
        """The tensor as float32."""
        ...


def weights(config: BackboneConfig) -> tuple[Weight, ...]:
    """Every parameter, in the published model's registration order (the order of an EMA's list)."""
    d, c, v = config.hidden_dim, config.cond_dim, config.vocab_size
    found: list[Weight] = []

    def add(key: str, path: str, *shape: int) -> None:
        found.append(Weight(f"backbone.{key}", tuple(path.split("/")), shape))

    def linear(key: str, path: str, n_in: int, n_out: int, bias: bool = True) -> None:
        add(f"{key}.weight", f"{path}/kernel", n_out, n_in)
        if bias:
            add(f"{key}.bias", f"{path}/bias", n_out)

    add("vocab_embed.embedding", "vocab_embed/embedding", v, d)
    linear("sigma_map.mlp.0", "sigma_map/linear_0", SINUSOID_WIDTH, c)
    linear("sigma_map.mlp.2", "sigma_map/linear_1", c, c)
    for i in range(config.n_blocks):
        ours, theirs = f"blocks_{i}", f"blocks.{i}"
        add(f"{theirs}.norm1.weight", f"{ours}/norm1/scale", d)
        linear(f"{theirs}.attn_qkv", f"{ours}/attn_qkv", d, 3 * d, bias=False)
        linear(f"{theirs}.attn_out", f"{ours}/attn_out", d, d, bias=False)
        add(f"{theirs}.norm2.weight", f"{ours}/norm2/scale", d)
        linear(f"{theirs}.mlp.0", f"{ours}/mlp_in", d, MLP_RATIO * d)
        linear(f"{theirs}.mlp.2", f"{ours}/mlp_out", MLP_RATIO * d, d)
        linear(f"{theirs}.adaLN_modulation", f"{ours}/adaln", c, 6 * d)
    add("output_layer.norm_final.weight", "final/norm/scale", d)
    linear("output_layer.linear", "final/linear", d, v)
    linear("output_layer.adaLN_modulation", "final/adaln", c, 2 * d)
    return tuple(found)


def parameter_count(config: BackboneConfig) -> int:
    """Number of trainable parameters (169 627 218 at the published size)."""
    return sum(int(np.prod(weight.shape)) for weight in weights(config))


def infer_sizes(shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, int]:
    """Vocabulary, widths, blocks and heads that the tensors' shapes imply.

    Args:
        shapes: published key to shape.
        where: the file, for messages.

    Raises:
        InputError: a key that the sizes are read from is missing or has the wrong rank.
    """

    def shape(key: str, rank: int) -> tuple[int, ...]:
        if key not in shapes:
            raise InputError(
                f"{where}: key {key} is missing; expected the keys of an MDLM backbone"
            )
        if len(shapes[key]) != rank or 0 in shapes[key]:
            raise InputError(
                f"{where}: key {key} has shape {list(shapes[key])}; expected {rank} sizes"
            )
        return tuple(shapes[key])

    vocab_size, hidden_dim = shape("backbone.vocab_embed.embedding", 2)
    head_dim = 2 * shape(INV_FREQ_KEY, 1)[0]
    if hidden_dim % head_dim:
        raise InputError(
            f"{where}: key {INV_FREQ_KEY} implies heads of width {head_dim}; "
            f"expected a divisor of the model's width {hidden_dim}"
        )
    blocks = {key.split(".")[2] for key in shapes if key.startswith("backbone.blocks.")}
    return {
        "vocab_size": vocab_size,
        "hidden_dim": hidden_dim,
        "cond_dim": shape("backbone.sigma_map.mlp.0.weight", 2)[0],
        "n_blocks": len(blocks),
        "n_heads": hidden_dim // head_dim,
    }


def check_layout(config: BackboneConfig, tensors: TensorFile, where: str) -> None:
    """Checks every key, shape, format and the rotary buffer, before any weight is read.

    Raises:
        InputError: naming the first key that is unknown, missing, or of the wrong shape or format.
    """
    expected = {weight.key: weight.shape for weight in weights(config)}
    expected[INV_FREQ_KEY] = (config.head_dim // 2,)
    for key in tensors.shapes:
        if key not in expected:
            raise InputError(
                f"{where}: unknown key {key}; expected only the {len(expected)} keys of MDLM"
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
    spacing = STORED_DTYPES[tensors.dtypes[INV_FREQ_KEY]]
    rotary = np.asarray(rotary_frequencies(config.head_dim))
    if not np.allclose(tensors.read(INV_FREQ_KEY), rotary, rtol=8 * spacing, atol=0):
        raise InputError(
            f"{where}: key {INV_FREQ_KEY} does not hold 1 / 10000^(2k / {config.head_dim}); "
            "expected rotary embeddings of base 10000 on the whole head"
        )


def to_flax(
    config: BackboneConfig, tensors: TensorFile, dtype: np.dtype, progress: Progress = iter
) -> Params:
    """Reads a checked checkpoint into our tree, one tensor at a time.

    Args:
        config: the model's sizes; `check_layout` must have passed with it.
        tensors: the checkpoint.
        dtype: format of the result, float32 or bfloat16.
        progress: wraps the list of weights, for a progress bar.

    Returns:
        Nested dicts of NumPy arrays, kernels as [in, out].

    Raises:
        InputError: naming a tensor that holds NaN or infinity.
    """
    params: Params = {}
    for weight in progress(list(weights(config))):
        value = tensors.read(weight.key)
        if not np.isfinite(value).all():
            raise InputError(f"key {weight.key} holds NaN or infinity; expected finite weights")
        if weight.path[-1] == "kernel":
            value = value.T
        branch = params
        for name in weight.path[:-1]:
            branch = branch.setdefault(name, {})
        # A copy always: a view of a mapped file would keep the whole file in memory.
        branch[weight.path[-1]] = np.array(value, dtype=dtype, order="C")
    return params


def from_flax(
    config: BackboneConfig, params: Params, inv_freq: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Our tree in the published layout: key to float32 array, rotary buffer included.

    Args:
        config: the model's sizes.
        params: our tree, as `to_flax` gives it.
        inv_freq: the rotary buffer the checkpoint came with; None computes it. Power functions of
            libraries differ in the last bit, and there-and-back must not.

    Raises:
        InputError: a parameter is missing or has the wrong shape.
    """
    found: dict[str, np.ndarray] = {}
    for weight in weights(config):
        value: Any = params
        for name in weight.path:
            value = value[name] if name in value else None
            if value is None:
                raise InputError(f"parameter {'/'.join(weight.path)} is missing from the backbone")
        value = np.asarray(value, dtype=np.float32)
        if value.shape != weight.flax_shape:
            raise InputError(
                f"parameter {'/'.join(weight.path)} has shape {list(value.shape)}; "
                f"expected {list(weight.flax_shape)}"
            )
        found[weight.key] = np.ascontiguousarray(value.T if weight.path[-1] == "kernel" else value)
    if inv_freq is None:
        inv_freq = np.asarray(rotary_frequencies(config.head_dim))
    found[INV_FREQ_KEY] = np.asarray(inv_freq, dtype=np.float32)
    return found
