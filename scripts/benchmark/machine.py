"""The machine: what it is, and the most that it reaches."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmark.measure import CEILING, Program

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
_CPU_SIZE, _GPU_SIZE = 3072, 16384  # rows and columns of the matrices
_COPY_BYTES = 2**28


def describe() -> dict[str, Any]:
    """Machine, versions, and how busy it was before the benchmark began."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": f"{device.platform}: {device.device_kind}",
        "driver": _driver(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "load_before": os.getloadavg()[0],
    }


def matmul_programs(size: int | None = None) -> list[Program]:
    """A large square product in each compute dtype, with float32 results: the ceilings.

    On CPU bfloat16 operands give float32 results, as in the backbone. size: rows and columns; None:
    enough for the device.
    """
    if size is None:
        size = _CPU_SIZE if jax.default_backend() == "cpu" else _GPU_SIZE
    programs = []
    for dtype in ("float32", "bfloat16"):
        x = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))

        @jax.jit
        def multiply(x: jax.Array) -> jax.Array:
            return jnp.matmul(x, x, preferred_element_type=jnp.float32)

        def run(x: jax.Array = x, multiply: Any = multiply) -> float:
            return float(multiply(x).block_until_ready()[0, 0])

        programs.append(
            Program(
                name=CEILING.format(dtype),
                run=run,
                operations=2.0 * size**3,
                bytes=3.0 * size**2 * 4,
                rows=size,
                dtype=dtype,
            )
        )
    return programs


def copy_program() -> Program:
    """Reads and writes a large block."""
    block = jnp.ones(_COPY_BYTES // 4, jnp.float32)
    copy = jax.jit(jnp.negative)
    return Program(
        name="copy",
        run=lambda: float(copy(block).block_until_ready()[0]),
        operations=float(len(block)),
        bytes=2.0 * _COPY_BYTES,
        rows=1,
        dtype="none",
    )


def _driver() -> str | None:
    """NVIDIA's, with the first card's name and memory; None where there is none."""
    query = ["nvidia-smi", "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), None)


def _processor() -> str:
    with_name = Path("/proc/cpuinfo")
    if with_name.exists():
        for line in with_name.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
