"""The arrays of a pytree that exists twice: NumPy's on the host, JAX's on devices and in traces."""

from typing import TypeVar

import jax
import numpy as np

# `HeadBatch[np.ndarray]` is a batch on the host, `HeadBatch[jax.Array]` one on the devices.
ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)
