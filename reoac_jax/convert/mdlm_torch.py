"""MDLM in plain PyTorch, by the name that model cards of exported folders give it."""

from reoac_jax.backbone.mdlm.torch_reference import MDLM, TorchOutput

__all__ = ["MDLM", "TorchOutput"]
