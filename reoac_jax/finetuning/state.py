"""What a checkpoint of fine-tuning holds, how a run goes on from one, and what it ends with."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from reoac_jax.backbone import save_backbone, tokenizer_files
from reoac_jax.backbone.store import derived_source
from reoac_jax.config import config_hash
from reoac_jax.finetuning.step import Finetuner, FinetuneState
from reoac_jax.learning.parts import Parts, read_own_record
from reoac_jax.learning.state import checkpoint_record as training_record
from reoac_jax.runs.checkpoints import read_item


def checkpoint_items(finetuner: Finetuner, state: FinetuneState) -> dict[str, Any]:
    """A checkpoint's pytrees, by name.

    The averaged weights have the name that `reoac_jax.train` gives its own, so that
    `convert/flax_to_mdlm.py --checkpoint` takes an unfinished run too.
    """
    return {
        _average_item(finetuner): state.average,
        "weights": state.weights,
        "optimizer": state.optimizer,
        "sums": state.sums,
    }


def parameter_groups(finetuner: Finetuner, state: FinetuneState) -> dict[str, Any]:
    """What a step changes, by name."""
    return {_average_item(finetuner): (state.average, state.weights, state.optimizer)}


def _average_item(finetuner: Finetuner) -> str:
    name = finetuner.settings.trainable.item
    assert name is not None, "fine-tuning trains something"
    return name


def checkpoint_record(config: ConfigDict, parts: Parts, done: int) -> dict[str, Any]:
    """What a reader of the checkpoint must know besides the arrays: as training's, its own mode."""
    return training_record(config, parts, done) | {"finetune_mode": config.sft.mode}


def restore_finetuning(
    checkpoint: Path, parts: Parts, finetuner: Finetuner, state: FinetuneState
) -> tuple[FinetuneState, int]:
    """The state of a checkpoint, placed as `state` is, and the number of steps it has behind it."""
    record = read_own_record(checkpoint, parts)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    wanted = checkpoint_items(finetuner, shapes)
    items = {name: read_item(checkpoint, name, shape) for name, shape in wanted.items()}
    average = items.pop(_average_item(finetuner))
    return FinetuneState(average=average, **items), record["iteration"]


def export(result: Path, config: ConfigDict, parts: Parts, params: Any, steps: int) -> None:
    """Writes the backbone's folder, with the tokenizer's files of the one it came from.

    steps: that made it.
    """
    source = {
        "source": "reoac_jax.sft",
        "task": config.task.name,
        "steps": steps,
        "mode": config.sft.mode,
        "config_hash": config_hash(config),
    } | derived_source(config.backbone.path)
    tokenizer = tokenizer_files(config.backbone.path)
    save_backbone(
        result, parts.model.config, jax.device_get(params), source=source, tokenizer=tokenizer
    )
