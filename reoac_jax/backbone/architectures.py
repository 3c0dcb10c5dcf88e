"""The architectures there are, found by listing this folder's packages."""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.layout import Architecture
from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.system.errors import InputError


def _architectures() -> dict[str, Architecture]:
    """What each package's `ARCHITECTURES` lists, by name."""
    room = __name__.rpartition(".")[0]
    found: dict[str, Architecture] = {}
    for entry in pkgutil.iter_modules([str(Path(__file__).parent)], f"{room}."):
        if not entry.ispkg:
            continue
        for one in importlib.import_module(entry.name).ARCHITECTURES:
            if one.name in found:
                raise ValueError(f"{entry.name}: another package has an architecture {one.name!r}")
            found[one.name] = one
    return found


# By `model_type` of config.json.
ARCHITECTURES: Mapping[str, Architecture] = _architectures()
_UNNAMED = "mdlm"  # a config.json without model_type: folders converted by reoac_jax 0.1


def architecture_of(values: Mapping[str, Any], where: str) -> Architecture:
    """The architecture that a `config.json` names, by `model_type` and `architectures`.

    The type alone does not decide: different models are published under one.

    Raises `InputError` naming the type or the class that is unknown.
    """
    kind = values.get("model_type", _UNNAMED)
    causal = {one.causal: name for name, one in ARCHITECTURES.items() if one.causal is not None}
    if isinstance(kind, str) and kind in causal:
        raise InputError(
            f"{where}: model_type is {kind!r}, a causal model that was never trained to fill in "
            f"masked tokens; expected a diffusion model of this layout, {causal[kind]!r}"
        )
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
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
