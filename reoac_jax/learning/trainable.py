"""What of the backbone is trained: a LoRA overlay, all of it, or nothing (DESIGN.md, section 4)."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
from ml_collections import ConfigDict

from reoac_jax.backbone import lora
from reoac_jax.system.errors import InputError


def as_they_are(params: Any) -> Any:
    """For `Trainable.merged`: in the formats in which they are stored and merged."""
    return params


class Trainable(abc.ABC):
    """The trained weights, a pytree, beside the frozen base parameters.

    name: as `backbone.finetune_mode` and `sft.mode` have it. item: what a checkpoint calls the
    weights; None where there are none. keeps_base: the base is needed beside the weights.
    takes_adapter: a PEFT adapter can be their start.
    """

    name: ClassVar[str]
    item: ClassVar[str | None] = None
    keeps_base: ClassVar[bool] = True
    takes_adapter: ClassVar[bool] = False

    @abc.abstractmethod
    def init(
        self,
        key: jax.Array,
        base: Any,
        default_targets: Sequence[str] = (),
        overlay: lora.Overlay | None = None,
    ) -> Any:
        """The weights that training starts from; what of them is the base's own is not copied.

        default_targets: patterns of the matrices that get an overlay where none are set.
        overlay: its start; None: a new one.
        """

    @abc.abstractmethod
    def params(self, base: Any, weights: Any) -> Any:
        """The backbone's parameters with the weights in place. base: None unless `keeps_base`."""

    def merged(self, base: Any, weights: Any, finish: Callable[[Any], Any]) -> Any:
        """`finish` of `params`, on the devices as the base and the weights lie there.

        What stays as it was is no copy.

        Args:
          finish: such as `Denoiser.cast_for_compute`; hashable.
        """
        return finish(self.params(base, weights))

    @abc.abstractmethod
    def variables(self, base: Any, weights: Any) -> dict[str, Any]:
        """Flax collections for an update; an overlay stays in the layers."""


@dataclasses.dataclass(frozen=True)
class Lora(Trainable):
    """scale: of the overlay, alpha / rank. targets: patterns, as `lora.init` takes them."""

    scale: float
    targets: tuple[str, ...] = ()
    rank: int = 1
    name: ClassVar[str] = "lora"
    item: ClassVar[str] = "backbone_lora"
    takes_adapter: ClassVar[bool] = True

    def init(
        self,
        key: jax.Array,
        base: Any,
        default_targets: Sequence[str] = (),
        overlay: lora.Overlay | None = None,
    ) -> Any:
        """Raises `InputError` where the targets or the rank do not fit the backbone."""
        if overlay is not None:
            return overlay
        return lora.init(key, base, self.targets or default_targets, self.rank)

    def params(self, base: Any, weights: Any) -> Any:
        return lora.merge(base, weights, self.scale)

    def merged(self, base: Any, weights: Any, finish: Callable[[Any], Any]) -> Any:
        return lora.merge_in_place(base, weights, self.scale, finish)

    def variables(self, base: Any, weights: Any) -> dict[str, Any]:
        return {"params": base, "lora": lora.collection(weights, self.scale)}


@dataclasses.dataclass(frozen=True)
class Full(Trainable):
    name: ClassVar[str] = "full"
    item: ClassVar[str] = "backbone"
    keeps_base: ClassVar[bool] = False

    def init(
        self,
        key: jax.Array,
        base: Any,
        default_targets: Sequence[str] = (),
        overlay: lora.Overlay | None = None,
    ) -> Any:
        return base

    def params(self, base: Any, weights: Any) -> Any:
        return weights

    def variables(self, base: Any, weights: Any) -> dict[str, Any]:
        return {"params": weights}


@dataclasses.dataclass(frozen=True)
class Frozen(Trainable):
    name: ClassVar[str] = "frozen"

    def init(
        self,
        key: jax.Array,
        base: Any,
        default_targets: Sequence[str] = (),
        overlay: lora.Overlay | None = None,
    ) -> Any:
        return {}

    def params(self, base: Any, weights: Any) -> Any:
        return base

    def variables(self, base: Any, weights: Any) -> dict[str, Any]:
        return {"params": base}


TRAINABLES: Mapping[str, type[Trainable]] = {kind.name: kind for kind in (Lora, Full, Frozen)}


def trainable(mode: str, config: ConfigDict) -> Trainable:
    """What `mode` names, with the section `lora` of a validated configuration.

    Raises `InputError` where weights that are trained would be held in fewer bits than that takes.
    """
    if mode == Full.name and config.backbone.param_dtype != "float32":
        raise InputError(
            f"backbone.param_dtype is {config.backbone.param_dtype} but all weights are trained "
            "(mode full); expected float32, or mode lora"
        )
    if mode == Lora.name:
        rank = config.lora.rank
        return Lora(config.lora.alpha / rank, tuple(config.lora.targets), rank)
    return TRAINABLES[mode]()


def critic_trainable(config: ConfigDict) -> Trainable | None:
    """What of a critic that is a backbone is trained; None where the critic is a head."""
    if config.heads.critic != "backbone":
        return None
    return trainable(config.heads.backbone.mode, config)


def trained_by(record: Mapping[str, Any]) -> Trainable:
    """What a checkpoint with this record holds the weights of."""
    mode = record["finetune_mode"]
    return Lora(record["lora_scale"]) if mode == Lora.name else TRAINABLES[mode]()
