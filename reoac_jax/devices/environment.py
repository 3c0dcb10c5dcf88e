"""JAX as the program needs it, whatever the user's environment says of it."""

import contextlib
import os
import subprocess
import sys

import jax

from reoac_jax.system.errors import InputError

# Settings that change types, random numbers or what may be computed at all. Other settings of JAX
# (precision of products, debugging, logging, devices) are the user's.
_NEEDED = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_disable_jit": False,
    "jax_no_tracing": False,
    "jax_transfer_guard": None,
    "jax_transfer_guard_host_to_device": None,
    "jax_transfer_guard_device_to_host": None,
    "jax_transfer_guard_device_to_device": None,
}
# What makes XLA read its flags, and as little else as may be.
_READ_FLAGS = """
from jaxlib import xla_client
getattr(xla_client, "make_cpu_client", int)()
"""


def set_up_jax() -> None:
    """Sets what results and types depend on; what the environment had otherwise is named once.

    Call it before the first array is made.
    """
    refused = []
    for name, value in _NEEDED.items():
        found = getattr(jax.config, name, value)
        if found != value:
            jax.config.update(name, value)
            refused.append(f"{name.upper()}={found}")
    if refused:
        print(
            f"warning: {', '.join(refused)} not followed: types and random numbers are the "
            "program's own",
            file=sys.stderr,
        )


def check_devices() -> None:
    """Raises `InputError` where JAX has none of the devices that the environment asks for.

    The first call decides which devices the process has: join other processes before.
    """
    _check_flags()
    try:
        jax.devices()
    except Exception as error:  # RuntimeError, and AssertionError of a plugin that is not installed
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        lines = str(error).splitlines() or ["its plugin is not installed"]
        if not asked:
            raise InputError(
                f"JAX finds no device that it can use ({lines[0]}); expected one, or "
                "JAX_PLATFORMS=cpu in the environment"
            ) from error
        there = "none"
        with contextlib.suppress(Exception):
            jax.config.update("jax_platforms", "")
            there = ", ".join(sorted({device.platform for device in jax.devices()}))
        jax.config.update("jax_platforms", asked)
        raise InputError(
            f"JAX_PLATFORMS is {asked}, and JAX cannot use that here ({lines[0]}); expected it "
            f"unset, or among what is there: {there}"
        ) from error
    default = jax.config.jax_default_device  # type: ignore[attr-defined]
    if isinstance(default, str):
        try:
            jax.devices(default)
        except RuntimeError:
            there = ", ".join(sorted({device.platform for device in jax.devices()}))
            raise InputError(
                f"JAX_DEFAULT_DEVICE is {default}, and there is none; expected it unset, or among "
                f"what is there: {there}"
            ) from None


def _check_flags() -> None:
    """Raises `InputError` for XLA_FLAGS that XLA refuses.

    It would end the process, after pages of its flags: another process is asked first.
    """
    flags = os.environ.get("XLA_FLAGS")
    if not flags:
        return
    asked = subprocess.run(
        [sys.executable, "-c", _READ_FLAGS], capture_output=True, text=True, errors="replace"
    )
    if asked.returncode:
        said = (asked.stderr.splitlines() or ["it says nothing"])[0]
        raise InputError(
            f"XLA refuses the environment variable XLA_FLAGS={flags!r} "
            f"({said.split('] ', 1)[-1]}); expected flags that it knows, or the variable unset"
        )
