"""MDLM: the published architecture, its sizes and its weight map."""

from reoac_jax.backbone.mdlm.published import MDLM

ARCHITECTURES = (MDLM(),)
