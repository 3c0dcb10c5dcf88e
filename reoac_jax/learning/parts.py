"""From a configuration or a checkpoint to the parts that a program runs."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from reoac_jax.backbone import load_backbone, lora, stored_hash
from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.backbone.peft import read_adapter
from reoac_jax.devices import sharding
from reoac_jax.devices.streams import RunStream
from reoac_jax.learning.critic_backbone import rollout_critic
from reoac_jax.learning.learner import initial_heads
from reoac_jax.learning.trainable import (
    TRAINABLES,
    Lora,
    Trainable,
    critic_trainable,
    trained_by,
)
from reoac_jax.policy.distributions import AnyPositions
from reoac_jax.policy.heads import HeadParams, Heads
from reoac_jax.policy.options import NO_CHECKPOINT
from reoac_jax.policy.positions import PositionSizes
from reoac_jax.policy.rows import RowSizes
from reoac_jax.policy.value import BackboneCritic
from reoac_jax.policy.vocabulary import Vocabulary, build_vocabulary
from reoac_jax.rollout import RolloutSettings
from reoac_jax.runs.checkpoints import find_checkpoint, read_item, read_record
from reoac_jax.system.errors import InputError
from reoac_jax.system.shell import shell_command
from reoac_jax.tasks.prompting import set_up_chat
from reoac_jax.tasks.tokenizer import Tokenizer, load_tokenizer

NO_ADAPTER = "none"  # of the key lora.adapter


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a configuration names: model, frozen parameters, tokenizer, tables, heads.

    base: the backbone's parameters, on the first device, or with `sharding.fsdp` in parts on all.
    base_hash: their hash. critic: what of a critic that is a backbone is trained; None: it is a
    head.
    """

    model: DenoiserModule
    base: Any
    base_hash: str
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    heads: Heads
    critic: Trainable | None = None

    def training_model(self, config: ConfigDict) -> DenoiserModule:
        """The backbone with what its own updates need: dropout, and which activations are kept."""
        return self.model.clone(
            dropout=config.backbone.dropout,
            lora_dropout=config.lora.dropout,
            # With weights in parts blocks are computed anew in any case (`gathering_again`).
            remat=config.backbone.remat == "blocks" or config.sharding.fsdp,
        )

    def rollout_settings(self, config: ConfigDict, *, evaluation: bool = False) -> RolloutSettings:
        """The rollout's settings with this backbone's and tokenizer's own numbers."""
        return RolloutSettings.from_config(
            config,
            mask_id=self.model.spec.mask_id,
            pad_id=self.tokenizer.eos_token_id,
            time_conditioned=self.model.spec.sees_time,
            hidden_dim=self.model.spec.hidden_dim,
            evaluation=evaluation,
        )


def load_parts(config: ConfigDict) -> Parts:
    """Loads the backbone and the tokenizer and builds the rest. Raises `InputError`."""
    backbone = config.backbone
    model, base = load_backbone(
        backbone.path,
        compute_dtype=backbone.compute_dtype,
        attention=backbone.attention,
        param_dtype=backbone.param_dtype,
        mesh=sharding.make_mesh() if config.sharding.fsdp else None,
    )
    rollout = config.rollout
    longest = rollout.max_prompt_len + rollout.gen_len
    if longest > model.spec.context:
        raise InputError(
            f"rollout.max_prompt_len + rollout.gen_len is {longest}; expected at most the "
            f"backbone's context of {model.spec.context}"
        )
    tokenizer = load_tokenizer(
        backbone.tokenizer_source,
        backbone.tokenizer_path,
        backbone.path,
        eos_id=model.spec.eos_id,
        pad_id=model.spec.pad_id,
    )
    model = model.clone(config=model.config.for_tokenizer(len(tokenizer)))
    if config.task.prompt == "chat":
        set_up_chat(tokenizer)
    heads = make_heads(config, model, tokenizer.eos_token_id)
    vocabulary = build_vocabulary(
        tokenizer, model.spec.vocab_size, model.spec.mask_id, symbols=config.features.notation
    )
    return Parts(
        model, base, stored_hash(backbone.path), tokenizer, vocabulary, heads,
        critic_trainable(config),
    )  # fmt: skip


def make_heads(config: ConfigDict, model: DenoiserModule, pad_id: int) -> Heads:
    """Actor and critic as a configuration has them, over this backbone.

    pad_id: what stands behind a row's end, for a critic that reads rows as the backbone does.
    """
    spec = model.spec
    rows = None
    if config.heads.reads == "rows":
        own = config.heads.rows
        rows = RowSizes(
            config.rollout.gen_len, spec.hidden_dim, spec.vocab_size, own.width, own.layers,
            own.attention_heads, own.token_rows,
        )  # fmt: skip
    if config.heads.policy == AnyPositions.name:
        sizes = PositionSizes(config.rollout.gen_len, **config.heads.positions.to_dict())
        features = config.features
        return Heads.over_positions(sizes, features.extra_features, rows, features.notation)
    critic = None
    if config.heads.critic == "backbone":
        copy = model.clone(remat=config.backbone.remat == "blocks")
        critic = BackboneCritic(
            copy, len(config.operators.names), config.rollout.gen_len, pad_id
        )  # fmt: skip
    return Heads.create(
        config.heads.actor_hidden,
        config.heads.critic_hidden,
        spec.hidden_dim,
        config.features.use_hidden,
        config.features.extra_features,
        config.features.operator_preview,
        len(config.operators.names),
        rows,
        config.features.notation,
        critic,
    )


def starting_overlay(config: ConfigDict, parts: Parts, mode: str) -> lora.Overlay | None:
    """The overlay of `lora.adapter`, from which training in `mode` starts; None: a new one.

    Raises `InputError` where the adapter is unreadable or unlike what `config.lora` describes.
    """
    settings = config.lora
    if settings.adapter == NO_ADAPTER:
        return None
    if not TRAINABLES[mode].takes_adapter:
        merge = shell_command(
            "convert.peft_to_flax", "--adapter", Path(settings.adapter),
            "--base", Path(config.backbone.path), "--output", "DIR",
        )  # fmt: skip
        raise InputError(
            f"lora.adapter is {settings.adapter} but the backbone's mode is {mode}; expected mode "
            f"lora, or a backbone with the adapter merged: {merge}"
        )
    adapter = read_adapter(settings.adapter, parts.model.config)
    alpha = adapter.scale * adapter.rank
    if adapter.rank != settings.rank or not math.isclose(alpha, settings.alpha):
        raise InputError(
            f"lora.adapter {settings.adapter} has rank {adapter.rank} and alpha {alpha:g}; expected"
            f" lora.rank {settings.rank} and lora.alpha {settings.alpha:g}, or those keys changed"
        )
    targets = lora.target_paths(parts.base, settings.targets or parts.model.lora_targets)
    if set(targets) != set(adapter.overlay):
        differing = sorted(set(targets) ^ set(adapter.overlay))[0]
        raise InputError(
            f"lora.adapter {settings.adapter} and lora.targets differ in {differing}; expected the "
            "same matrices in both"
        )
    return jax.tree.map(jnp.asarray, adapter.overlay)


def adapted_base(config: ConfigDict, parts: Parts) -> Any:
    """The base parameters that the configuration describes: with `lora.adapter` merged, if any."""
    if config.lora.adapter == NO_ADAPTER:
        return parts.base
    adapter = read_adapter(config.lora.adapter, parts.model.config)
    return _for_rollouts(parts, Lora(adapter.scale), adapter.overlay)


def _for_rollouts(parts: Parts, trained: Trainable, weights: Any) -> Any:
    """The backbone's parameters with these weights, in the formats in which they are multiplied."""
    return trained.merged(parts.base, weights, parts.model.cast_for_compute)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A checkpoint's policy.

    params: the backbone's parameters for rollouts, LoRA merged. heads: of actor and critic.
    checkpoint: its folder; None if nothing was trained. record: what the run wrote beside it.
    """

    params: Any
    heads: HeadParams
    checkpoint: Path | None
    record: dict[str, Any]


def untrained(config: ConfigDict, parts: Parts) -> Trained:
    """The configuration's backbone as it is, and heads as training would start from."""
    key = jax.random.fold_in(jax.random.key(config.seed), RunStream.INIT)
    heads = starting_heads(config, parts, _initial_heads(parts, key))
    return Trained(adapted_base(config, parts), _rollout_heads(parts, heads), None, {})


def load_trained(checkpoint: str | Path, parts: Parts) -> Trained:
    """Reads what a run trained, over the base in `parts`.

    Raises `InputError` where the checkpoint is damaged, was trained over another base, has heads
    of another shape, or a critic whose overlay was trained at another scale.
    """
    params, folder, record = load_weights(checkpoint, parts)
    if isinstance(parts.critic, Lora) and parts.critic.scale != record["lora_scale"]:
        raise InputError(
            f"lora.alpha / lora.rank is {parts.critic.scale:g}, but the critic's overlay in "
            f"{folder} was trained with {record['lora_scale']:g}; expected the same"
        )
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(functools.partial(_initial_heads, parts), jax.random.key(0))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes)
    return Trained(params, _rollout_heads(parts, read_heads(folder, shapes)), folder, record)


def starting_heads(config: ConfigDict, parts: Parts, fresh: HeadParams) -> HeadParams:
    """The heads of `heads.checkpoint`, from which training starts; without one `fresh` ones.

    A small network reads features, and may be taken to another backbone than it was trained over;
    a critic that is a copy of its backbone, or an overlay on it, may not.

    Args:
      fresh: arrays, in whose shapes and at whose places they are read.

    Raises:
      InputError: there is no such checkpoint, it is damaged or does not fit.
    """
    if config.heads.checkpoint == NO_CHECKPOINT:
        return fresh
    folder = find_checkpoint(config.heads.checkpoint)
    if parts.critic is not None:
        read_own_record(folder, parts)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), fresh
    )
    return read_heads(folder, shapes)


def read_heads(checkpoint: Path, shapes: HeadParams) -> HeadParams:
    """A checkpoint's heads. Raises `InputError` where it has others or is damaged.

    Args:
      shapes: `jax.ShapeDtypeStruct`s, with shardings.
    """
    items = shapes.items()
    return shapes._replace(**{name: read_item(checkpoint, name, items[name]) for name in items})


def _initial_heads(parts: Parts, key: jax.Array) -> HeadParams:
    """Actor and critic before any training."""
    targets = parts.model.lora_targets
    return initial_heads(parts.heads, parts.critic, key, parts.base, targets)


def _rollout_heads(parts: Parts, heads: HeadParams) -> HeadParams:
    return rollout_critic(parts.critic, parts.base, heads, parts.model.cast_for_compute)


def load_weights(checkpoint: str | Path, parts: Parts) -> tuple[Any, Path, dict[str, Any]]:
    """The backbone alone of a checkpoint, also of one of fine-tuning, which has no heads.

    Returns the parameters, LoRA merged, the checkpoint's folder and its record. Raises
    `InputError` where it is damaged or was trained over another base.
    """
    folder = find_checkpoint(checkpoint)
    record = read_own_record(folder, parts)
    trained = trained_by(record)
    return _for_rollouts(parts, trained, weights_of(folder, trained, parts.base)), folder, record


def read_own_record(checkpoint: Path, parts: Parts) -> dict[str, Any]:
    """A checkpoint's record. Raises `InputError` if it was trained over another base."""
    record = read_record(checkpoint)
    if record["base_hash"] != parts.base_hash:
        raise InputError(
            f"{checkpoint} was trained over a backbone of hash {record['base_hash'][:12]}; "
            f"expected it in backbone.path, found {parts.base_hash[:12]}"
        )
    return record


def weights_of(folder: Path, trained: Trainable, base: Any) -> Any:
    """What a checkpoint holds of the backbone; all of it is read to where the base lies."""
    if trained.item is None:
        return {}
    like = None
    if not trained.keeps_base:
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding), base
        )
    return read_item(folder, trained.item, like)
