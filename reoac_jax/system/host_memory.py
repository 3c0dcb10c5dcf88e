"""Keeps freed memory in the process, on CPUs under glibc.

XLA allocates its buffers anew for every program that runs. glibc hands large blocks back to the
kernel at once, and each page is cleared again at its next use: a quarter of a small model's
training step. With these settings a block stays in the heap and is used again.
"""

import contextlib
import ctypes

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Call it before the first JAX computation. Returns whether the C library has the settings."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # not glibc: nothing to set
    settings = {
        _MMAP_MAX: 0,  # no block is mapped on its own, and so none is unmapped when it is freed
        _TRIM_THRESHOLD: -1,  # never
        _TOP_PAD: 2**28,
        _ARENA_MAX: 1,  # only the main arena can hold blocks of any size
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def release_freed_memory() -> None:
    """Hands what is free back to the kernel after all, under glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
