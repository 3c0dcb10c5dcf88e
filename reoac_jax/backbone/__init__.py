"""The denoiser: MDLM in Flax, its published PyTorch layout and its folder on disk."""

from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.mdlm.model import Backbone, BackboneOutput, Modulation
from reoac_jax.backbone.mdlm.published import Params, parameter_count
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
