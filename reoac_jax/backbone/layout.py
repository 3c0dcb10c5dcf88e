"""What an architecture offers the store, PEFT and the converters.

An `Architecture` is a model as it is published: `config.json`, the Flax module that these sizes
make, and the published name of every parameter. A new one is a folder beside `mdlm/`, which
docs/extending.md writes out. The folder holds

- a frozen dataclass of sizes with `architecture` (the architecture's name), `spec`, `head_dim` and
  `to_json()`, a `ModelConfig`;
- a subclass of `DenoiserModule` with the three Flax methods `condition`, `trunk` and `head`;
- a subclass of `Architecture`;
- in `__init__.py` the tuple `ARCHITECTURES` with one of it, which `architectures.py` finds.
"""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.system.errors import InputError


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

    def place(self, key: str) -> str:
        """Where the tensor lies, for a message: its file, a shard perhaps, and its key there."""
        ...


class Weight(NamedTuple):
    """One parameter: its key in the published state dict and its place in our tree.

    A `kernel` is the published matrix transposed, [in, out]; every other array is as published.
    """

    key: str
    path: str  # names joined by "/"

    @property
    def is_transposed(self) -> bool:
        return self.path.endswith("/kernel")


class Buffer(NamedTuple):
    """A published tensor that is no parameter. value: what it must hold. meaning: that in words."""

    value: np.ndarray
    meaning: str


class Architecture(abc.ABC):
    """A kind of model: its `config.json`, its Flax module and its published tensors.

    name: `model_type` of its `config.json`, and `ModelConfig.architecture`. title: for people.
    class_names: what `config.json`'s `architectures` may name.
    training_prefixes: of the keys that a training checkpoint holds beside the model.
    assumed: what `infer_config` cannot know and takes for granted, in words.
    causal: `model_type` of the causal model with the same tensors, if there is one; it is refused.
    reference_class: full name of a PyTorch class whose `from_folder` loads an exported folder,
      and whose modules are named as PEFT knows them; None where `transformers` is all there is.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]
    training_prefixes: ClassVar[tuple[str, ...]] = ()
    assumed: ClassVar[str] = ""
    causal: ClassVar[str | None] = None
    reference_class: ClassVar[str | None] = None

    @abc.abstractmethod
    def read_config(
        self, values: Mapping[str, Any], where: str, tokenizer: Sequence[Path] = ()
    ) -> Any:
        """Checks `config.json`'s fields and gives the `ModelConfig`.

        Args:
          values: the published fields, or what `ModelConfig.to_json` gave. where: the file's name.
          tokenizer: the tokenizer's files beside it, for what the config does not say.

        Raises:
          InputError: naming the field that is missing, wrong, or asks for another model.
        """

    @abc.abstractmethod
    def build(self, config: Any, **attributes: Any) -> DenoiserModule:
        """The Flax module; attributes: `DenoiserModule`'s fields."""

    @abc.abstractmethod
    def weights(self, config: Any) -> tuple[Weight, ...]:
        """Every parameter once, in the published model's order of registration."""

    def buffers(self, config: Any) -> Mapping[str, Buffer]:
        """Published tensors that are no parameters, by key."""
        return {}

    def stored_buffers(self, source: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        """The buffers that a checkpoint came with, from a converted folder's `source.json`."""
        return {
            key: np.asarray(value, np.float32) for key, value in source.get("buffers", {}).items()
        }

    def repeated(self, config: Any) -> Mapping[str, str]:
        """Keys that a file may hold although they repeat another key's tensor (tied weights)."""
        return {}

    def infer_config(self, shapes: Mapping[str, tuple[int, ...]], where: str) -> Any | None:
        """The sizes that the published tensors' shapes imply, for a file without `config.json`.

        None where the tensors are another model's, or do not tell. Raises `InputError` where they
        are this one's and contradict each other.
        """
        return None

    @abc.abstractmethod
    def published_config(self, config: Any) -> dict[str, Any]:
        """The fields of a published `config.json`, its header (`model_type`, ...) included."""

    def reference(self, config: Any, tensors: TensorFile) -> Any:
        """The published model in PyTorch: (tokens int64 `[B, L]`, sigma float32 `[B]`) to logits
        and hidden states; for `--verify`. Imports torch.
        """
        raise InputError(f"--verify has no PyTorch reference for {self.title}; convert without it")
