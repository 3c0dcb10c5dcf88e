"""What a training checkpoint holds, and how a run goes on from one (DESIGN.md, section 11).

The key, the position in the data and the step counts derive from the seed and the iteration.
"""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from reoac_jax.backbone.store import versions
from reoac_jax.config import config_hash
from reoac_jax.learning.learner import LearnerSettings, LearnerState
from reoac_jax.learning.parts import Parts, read_own_record
from reoac_jax.learning.replay import Replay
from reoac_jax.runs.checkpoints import read_item


def checkpoint_items(state: LearnerState, replay: Replay) -> dict[str, Any]:
    """A checkpoint's pytrees, by name."""
    items = {
        "actor": state.heads.actor,
        "critic": state.heads.critic,
        "optimizers": state.optimizers,
        "replay": replay.state(),
    }
    if state.backbone:
        items[_backbone_item(state)] = state.backbone
    return items


def parameter_groups(state: LearnerState) -> dict[str, Any]:
    """What the three updates change, by name: parameters with their optimiser's state."""
    heads, optimizers = state.heads, state.optimizers
    groups = {
        "actor": (heads.actor, optimizers.actor),
        "critic": (heads.critic, optimizers.critic),
    }
    if state.backbone:
        groups[_backbone_item(state)] = (state.backbone, optimizers.backbone)
    return groups


def _backbone_item(state: LearnerState) -> str:
    # An overlay is flat, its keys are paths; the parameters are nested.
    return "backbone_lora" if any("/" in path for path in state.backbone) else "backbone"


def checkpoint_record(
    config: ConfigDict, parts: Parts, settings: LearnerSettings, iteration: int
) -> dict[str, Any]:
    """What a reader of the checkpoint must know besides the arrays."""
    return {
        "iteration": iteration,
        "finetune_mode": settings.finetune_mode,
        "lora_scale": settings.lora_scale,
        "backbone_path": config.backbone.path,
        "base_hash": parts.base_hash,
        "config_hash": config_hash(config),
        "versions": versions(),
    }


def restore_training(
    checkpoint: Path, parts: Parts, state: LearnerState, replay: Replay
) -> tuple[LearnerState, int]:
    """The state and replay of a checkpoint, placed as `state` is, and the next iteration."""
    record = read_own_record(checkpoint, parts)
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    items = {
        "actor": template.heads.actor,
        "critic": template.heads.critic,
        "optimizers": template.optimizers,
    }
    name = _backbone_item(state) if state.backbone else None
    if name is not None:
        items[name] = template.backbone
    restored = {item: read_item(checkpoint, item, shapes) for item, shapes in items.items()}
    replay.restore(read_item(checkpoint, "replay"))
    heads = state.heads._replace(actor=restored["actor"], critic=restored["critic"])
    backbone = restored[name] if name is not None else state.backbone
    return LearnerState(heads, backbone, restored["optimizers"]), record["iteration"] + 1
