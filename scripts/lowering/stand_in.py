"""A machine without a GPU that lowers as one with a GPU would.

JAX lowers for CUDA anywhere. Three things look at the machine nevertheless: our own choices by
backend, the checks of version and capability before cuDNN's attention, and a call back to Python,
which asks for CUDA's client and then does without it.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax
from jax._src.cudnn import fused_attention_stablehlo as fused_attention
from jax._src.interpreters import mlir

from reoac_jax.backbone.products import products

_CUDNN = 91002  # 9.10.2, as its own `cudnnGetVersion` says it: the oldest that jax's wheels ask for
_CAPABILITY = (8, 0)  # A100's, the least of the cards that a run is reckoned for


@contextlib.contextmanager
def cuda_stood_in() -> Iterator[None]:
    """Inside, programs are traced as on an A100. Nothing can be run that was traced there.

    Use it in a process of its own: JAX remembers what it has traced.
    """

    def reaches(capability: str) -> bool:
        return tuple(map(int, capability.split("."))) <= _CAPABILITY

    with (
        mock.patch.object(jax, "default_backend", lambda: "gpu"),
        mock.patch.object(mlir.ModuleContext, "get_backend", lambda module, optional=False: None),
        mock.patch.multiple(
            fused_attention,
            check_cudnn_version=lambda: _CUDNN,
            check_compute_capability=reaches,
            is_cuda_compute_capability_equal=lambda capability: False,
        ),
    ):
        products.cache_clear()
        try:
            yield
        finally:
            products.cache_clear()
