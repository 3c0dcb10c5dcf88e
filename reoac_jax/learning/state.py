"""What a training checkpoint holds, and how a run goes on from one (DESIGN.md, section 11).

The key, the position in the data and the step counts derive from the seed and the iteration.
"""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from reoac_jax.backbone.store import versions
from reoac_jax.config import config_hash
from reoac_jax.learning.learner import Learner, LearnerState
from reoac_jax.learning.parts import Parts, read_heads, read_own_record
from reoac_jax.learning.replay import Replay
from reoac_jax.runs.checkpoints import read_item


def checkpoint_items(learner: Learner, state: LearnerState, replay: Replay) -> dict[str, Any]:
    """A checkpoint's pytrees, by name."""
    items = state.heads.items() | {"optimizers": state.optimizers, "replay": replay.state()}
    if (name := learner.settings.trainable.item) is not None:
        items[name] = state.backbone
    return items


def parameter_groups(learner: Learner, state: LearnerState) -> dict[str, Any]:
    """What the three updates change, by name: parameters with their optimiser's state."""
    heads, optimizers = state.heads, state.optimizers
    groups = {
        "actor": (heads.actor, optimizers.actor),
        "critic": (heads.critic, optimizers.critic),
    }
    if (name := learner.settings.trainable.item) is not None:
        groups[name] = (state.backbone, optimizers.backbone)
    return groups


def checkpoint_record(config: ConfigDict, parts: Parts, iteration: int) -> dict[str, Any]:
    """What a reader of the checkpoint must know besides the arrays."""
    return {
        "iteration": iteration,
        "finetune_mode": config.backbone.finetune_mode,
        "lora_scale": config.lora.alpha / config.lora.rank,
        "backbone_path": config.backbone.path,
        "base_hash": parts.base_hash,
        "config_hash": config_hash(config),
        "versions": versions(),
    }


def restore_training(
    checkpoint: Path, parts: Parts, learner: Learner, state: LearnerState, replay: Replay
) -> tuple[LearnerState, int]:
    """The state and replay of a checkpoint, placed as `state` is, and the next iteration."""
    record = read_own_record(checkpoint, parts)
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    heads = read_heads(checkpoint, template.heads)
    optimizers = read_item(checkpoint, "optimizers", template.optimizers)
    name = learner.settings.trainable.item
    backbone = state.backbone if name is None else read_item(checkpoint, name, template.backbone)
    replay.restore(read_item(checkpoint, "replay"))
    return LearnerState(heads, backbone, optimizers), record["iteration"] + 1
