"""LoRA overlays as PEFT adapter folders: `adapter_config.json` and `adapter_model.safetensors`.

PEFT (https://huggingface.co/docs/peft) keeps `lora_A.weight` [r, in] and `lora_B.weight` [out, r]
for each adapted matrix, under `base_model.model.` and the matrix's name in the PyTorch model; they
are our `a` and `b` transposed. Neither torch nor peft is needed to write or read them.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.layout import TensorFile
from reoac_jax.backbone.published import weights
from reoac_jax.backbone.safetensors_writer import write_tensors
from reoac_jax.backbone.tensor_files import (
    SafetensorsFile,
    TorchTensors,
    load_pickle,
    state_of,
    without_wrappers,
)
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import write_json
from reoac_jax.system.json_files import read_json_object

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ADAPTER_PICKLE = "adapter_model.bin"  # what PEFT wrote before safetensors
_PREFIX = "base_model.model."
_SUFFIXES = {"a": ".lora_A.weight", "b": ".lora_B.weight"}
# A state dict of the adapted model itself names the adapter too; PEFT's own save leaves that out.
_LORA_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(\.default)?\.weight")
# Fields that do not change what the adapter computes, or that are read below. Any other field that
# is set names a variant (DoRA, per-module ranks, trained biases ...) that an overlay cannot hold.
_PLAIN_FIELDS = frozenset(
    "auto_mapping base_model_name_or_path bias exclude_modules inference_mode init_lora_weights "
    "layers_pattern layers_to_transform lora_alpha lora_dropout megatron_core peft_type "
    "peft_version qalora_group_size r revision runtime_config target_modules task_type "
    "use_rslora".split()
)
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")  # others change the base


class Adapter(NamedTuple):
    """A LoRA overlay as it lies in a file.

    overlay: path of a kernel to `a` [in, r] and `b` [r, out], NumPy float32 (see `lora`).
    scale: the factor on a @ b, alpha / r. dropout: rate before `a` in training.
    """

    overlay: dict[str, dict[str, np.ndarray]]
    scale: float
    dropout: float

    @property
    def rank(self) -> int:
        return next(iter(self.overlay.values()))["a"].shape[1]


class BaseModel(NamedTuple):
    """The PyTorch model an adapter goes with, as PEFT records it; None: not on the hub."""

    name: str | None
    revision: str | None


def write_adapter(folder: Path, config: ModelConfig, adapter: Adapter, base: BaseModel) -> None:
    """Writes an adapter's two files into an existing folder.

    Raises:
        InputError: the overlay has a path that is no matrix of the backbone. OSError: it cannot be
            written.
    """
    modules = {path: module for module, path in _modules(config).items()}
    tensors = {}
    for path, pair in adapter.overlay.items():
        if path not in modules:
            raise InputError(f"the overlay holds {path}, which is no matrix of the backbone")
        for name, suffix in _SUFFIXES.items():
            value = np.ascontiguousarray(np.asarray(pair[name], np.float32).T)
            tensors[f"{_PREFIX}{modules[path]}{suffix}"] = value
    write_tensors(folder / ADAPTER_WEIGHTS, tensors)
    alpha = adapter.scale * adapter.rank
    fields = {
        "peft_type": "LORA",
        "base_model_name_or_path": base.name,
        "revision": base.revision,
        "task_type": None,
        "inference_mode": True,
        "r": adapter.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": adapter.dropout,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": sorted(modules[path] for path in adapter.overlay),
    }
    write_json(folder / ADAPTER_CONFIG, fields)


def read_adapter(folder: str | Path, config: ModelConfig) -> Adapter:
    """Reads an adapter folder that PEFT or `write_adapter` wrote for a model of these sizes.

    Raises:
        InputError: the folder is none or damaged, holds something else than plain LoRA, or does
            not fit the backbone.
    """
    folder = Path(folder)
    fields = _read_fields(folder / ADAPTER_CONFIG)
    overlay = _overlay(adapter_weights(folder), config, fields["r"])
    rank = fields["r"] ** 0.5 if fields["use_rslora"] else fields["r"]
    return Adapter(overlay, fields["lora_alpha"] / rank, fields["lora_dropout"])


def adapter_weights(folder: str | Path) -> Path:
    """The file with an adapter's tensors. Raises `InputError` where there is none."""
    names = (ADAPTER_WEIGHTS, _ADAPTER_PICKLE)
    for name in names:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise InputError(f"{folder} has no {' or '.join(names)}; expected what PEFT's save writes")


def _modules(config: ModelConfig) -> dict[str, str]:
    """PyTorch module name to the path of our kernel, for every matrix of the backbone."""
    return {
        weight.key.removesuffix(".weight"): weight.path
        for weight in weights(config)
        if weight.kind == "kernel"
    }


def _read_fields(file: Path) -> dict[str, Any]:
    """The checked fields of `adapter_config.json`."""
    fields = read_json_object(file, "what PEFT's save writes")
    if fields.get("peft_type") != "LORA":
        raise InputError(f"{file} is no LoRA adapter; expected peft_type LORA")
    for name, value in fields.items():
        if value and name not in _PLAIN_FIELDS:
            raise InputError(f"{file}: {name} is {value!r}; expected plain LoRA, without it")
    if fields.get("bias", "none") != "none":
        raise InputError(f"{file}: bias is {fields['bias']!r}; expected 'none'")
    start = fields.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise InputError(
            f"{file}: init_lora_weights is {start!r}, which changes the "
            "base weights; expected a plain start, or the adapter merged into its base"
        )
    checked: dict[str, Any] = {"use_rslora": bool(fields.get("use_rslora"))}
    for name, low in (("r", 1), ("lora_alpha", None), ("lora_dropout", 0)):
        value = fields.get(name, 0.0 if name == "lora_dropout" else None)
        legal = int if name == "r" else int | float
        if isinstance(value, bool) or not isinstance(value, legal):
            raise InputError(f"{file}: {name} is {value!r}; expected a number")
        if low is not None and value < low:
            raise InputError(f"{file}: {name} is {value!r}; expected {low} or more")
        checked[name] = value
    return checked


def _overlay(file: Path, config: ModelConfig, rank: int) -> dict[str, dict[str, np.ndarray]]:
    tensors: TensorFile
    if file.name == _ADAPTER_PICKLE:
        tensors = TorchTensors(state_of(load_pickle(file), file), file)
    else:
        tensors = SafetensorsFile(file)
    modules = _modules(config)
    plain = {without_wrappers(f"{_PREFIX}{module}"): module for module in modules}
    shapes = {w.path: w.flax_shape for w in weights(config)}
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, shape in tensors.shapes.items():
        match = _LORA_KEY.fullmatch(key)
        module = plain.get(without_wrappers(match["module"])) if match else None
        if match is None or module is None:
            raise InputError(
                f"{file}: key {key} is no LoRA weight of the backbone; expected keys such as "
                f"{_PREFIX}{next(iter(modules))}{_SUFFIXES['a']}"
            )
        name = match["part"].lower()
        if name in found.get(modules[module], {}):
            raise InputError(f"{file}: key {key} is there under another name too; expected it once")
        inputs, outputs = shapes[modules[module]]
        expected = (rank, inputs) if name == "a" else (outputs, rank)
        if shape != expected:
            raise InputError(
                f"{file}: key {key} has shape {list(shape)}; expected {list(expected)}"
            )
        value = tensors.read(key)
        if not np.isfinite(value).all():
            raise InputError(f"{file}: key {key} holds NaN or infinity; expected finite weights")
        found.setdefault(modules[module], {})[name] = np.ascontiguousarray(value.T)
    if not found:
        raise InputError(f"{file} holds no weights; expected a LoRA adapter's")
    for path, pair in found.items():
        if len(pair) < 2:
            module = next(module for module, place in modules.items() if place == path)
            missing = _SUFFIXES["b" if "a" in pair else "a"]
            raise InputError(
                f"{file}: key {_PREFIX}{module}{missing} is missing; expected both of each pair"
            )
    return found
