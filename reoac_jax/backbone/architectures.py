"""The architectures there are: one line each."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.backbone.decoder import Dream, LLaDA, Qwen2, Qwen3
from reoac_jax.backbone.interface import Architecture, DenoiserModule, ModelConfig
from reoac_jax.backbone.mdlm import MDLM
from reoac_jax.system.errors import InputError

# By `model_type` of config.json.
ARCHITECTURES: Mapping[str, Architecture] = {
    "mdlm": MDLM(),
    "llada": LLaDA(),
    "Dream": Dream(),
    "a2d-qwen3": Qwen3(),
    "a2d-qwen2": Qwen2(),
}
_UNNAMED = "mdlm"  # a config.json without model_type: folders converted by reoac_jax 0.1


def architecture_of(values: Mapping[str, Any], where: str) -> Architecture:
    """The architecture that a `config.json` names, by `model_type` and `architectures`.

    The type alone does not decide: different models are published under one.

    Raises `InputError` naming the type or the class that is unknown.
    """
    kind = values.get("model_type", _UNNAMED)
    causal = {one.causal: name for name, one in ARCHITECTURES.items() if one.causal is not None}
    if kind in causal:
        raise InputError(
            f"{where}: model_type is {kind!r}, a causal model that was never trained to fill in "
            f"masked tokens; expected a diffusion model of this layout, {causal[kind]!r}"
        )
    if kind not in ARCHITECTURES:
        raise InputError(
            f"{where}: model_type is {kind!r}; expected one of {', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[kind]
    names = values.get("architectures")
    if names is None and "model_type" not in values:
        return architecture
    if not isinstance(names, list) or not names or names[0] not in architecture.class_names:
        raise InputError(
            f"{where}: architectures is {names!r} with model_type {kind!r}; expected "
            f"[{', '.join(repr(name) for name in architecture.class_names)}]"
        )
    return architecture


def infer_config(
    shapes: Mapping[str, tuple[int, ...]], where: str
) -> tuple[Architecture, ModelConfig]:
    """The architecture and sizes that published tensors' shapes imply. Raises `InputError`."""
    for kind in ARCHITECTURES.values():
        config = kind.infer_config(shapes, where)
        if config is not None:
            return kind, config
    raise InputError(
        f"{where} has no config.json beside it, and its keys, such as {next(iter(shapes), 'none')},"
        " do not say which model it is; expected config.json there, or --config-json FILE"
    )


def architecture(config: ModelConfig) -> Architecture:
    """The architecture of a model's sizes."""
    return ARCHITECTURES[config.architecture]


def build(config: ModelConfig, **attributes: Any) -> DenoiserModule:
    """The Flax module of these sizes; attributes: `DenoiserModule`'s other fields."""
    return architecture(config).build(config, **attributes)
