"""What a checkpoint holds of a backbone, as it leaves the project."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from reoac_jax.backbone import load_backbone, stored_hash
from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.peft import Adapter
from reoac_jax.backbone.store import read_sizes
from reoac_jax.learning.parts import weights_of
from reoac_jax.learning.trainable import Lora, as_they_are, trained_by
from reoac_jax.runs.checkpoints import find_checkpoint, read_item, read_record
from reoac_jax.system.errors import InputError


def restore_overlay(checkpoint: str | Path) -> tuple[ModelConfig, Adapter, Path]:
    """A checkpoint's LoRA overlay as it is: the backbone's sizes, the overlay, the base's folder.

    Raises `InputError`, also where the run trained no overlay.
    """
    folder = find_checkpoint(checkpoint)
    record = read_record(folder)
    trained = trained_by(record)
    if not isinstance(trained, Lora):
        raise InputError(
            f"{folder} holds no LoRA overlay: its backbone's mode was {record['finetune_mode']}; "
            "expected a checkpoint of mode lora"
        )
    config = read_sizes(record["backbone_path"])
    overlay = read_item(folder, Lora.item)
    return config, Adapter(overlay, trained.scale, 0.0), Path(record["backbone_path"])


def restore_backbone(checkpoint: str | Path) -> tuple[ModelConfig, Any, Path]:
    """A checkpoint's backbone: sizes, merged parameters (NumPy float32) and the base's folder.

    The base is read from where the run found it. Raises `InputError`.
    """
    folder = find_checkpoint(checkpoint)
    record = read_record(folder)
    model, base = load_backbone(record["backbone_path"], compute_dtype="float32", attention="xla")
    if stored_hash(record["backbone_path"]) != record["base_hash"]:
        raise InputError(
            f"the backbone in {record['backbone_path']} is not the one that {folder} was trained "
            f"over; expected hash {record['base_hash'][:12]}"
        )
    trained = trained_by(record)
    merged = trained.merged(base, weights_of(folder, trained, base), as_they_are)
    return model.config, jax.tree.map(np.asarray, merged), Path(record["backbone_path"])
