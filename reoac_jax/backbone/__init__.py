"""The denoiser: MDLM in Flax, its published PyTorch layout and its folder on disk."""

from reoac_jax.backbone.config import BackboneConfig
from reoac_jax.backbone.model import Backbone, BackboneOutput, Modulation
from reoac_jax.backbone.published import Params, parameter_count
from reoac_jax.backbone.store import (
    backbone_hash,
    load_backbone,
    read_backbone,
    save_backbone,
    stored_hash,
    tokenizer_files,
)

__all__ = [
    "Backbone",
    "BackboneConfig",
    "BackboneOutput",
    "Modulation",
    "Params",
    "backbone_hash",
    "load_backbone",
    "parameter_count",
    "read_backbone",
    "save_backbone",
    "stored_hash",
    "tokenizer_files",
]
