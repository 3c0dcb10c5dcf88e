"""REOAC: an operator actor-critic that steers a masked-diffusion language model."""

__version__ = "0.2.0"
