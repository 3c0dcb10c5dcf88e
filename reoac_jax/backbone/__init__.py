"""The denoiser: its interface, the architectures in Flax, and a backbone's folder on disk."""

from reoac_jax.backbone.architectures import ARCHITECTURES
from reoac_jax.backbone.interface import Denoiser, ModelSpec, Params
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.mdlm.model import Backbone
from reoac_jax.backbone.module import DenoiserOutput
from reoac_jax.backbone.published import parameter_count
from reoac_jax.backbone.store import (
    backbone_hash,
    load_backbone,
    read_backbone,
    save_backbone,
    stored_hash,
    tokenizer_files,
)

__all__ = [
    "ARCHITECTURES",
    "Backbone",
    "BackboneConfig",
    "Denoiser",
    "DenoiserOutput",
    "ModelSpec",
    "Params",
    "backbone_hash",
    "load_backbone",
    "parameter_count",
    "read_backbone",
    "save_backbone",
    "stored_hash",
    "tokenizer_files",
]
