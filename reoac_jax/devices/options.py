"""The keys that say on which devices and processes a run is computed."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError

OPTIONS: Mapping[str, Option] = {
    "sharding.fsdp": Option(
        "bool",
        "weights and optimiser state lie in parts over the devices (FSDP), are read in parts and "
        "gathered where they are used: in rollouts, evaluation and every kind of training; an "
        "update computes each block anew, whatever backbone.remat says",
        False,
    ),
    "distributed.mode": Option(
        "str",
        "how the processes of one training run find each other: auto (SLURM and what else jax "
        "finds), explicit (the keys below), off (one process)",
        "off",
        choices=("off", "auto", "explicit"),
    ),
    "distributed.coordinator": Option(
        "str", "explicit: host and port of process 0", "localhost:12321"
    ),
    "distributed.processes": Option("int", "explicit: their number", 1, low=1, high=65536),
    "distributed.index": Option("int", "explicit: of this process, from 0", 0, low=0, high=65535),
    "compilation.cache_dir": Option(
        "str", "compiled programs: auto (the user's cache folder), off, or a folder", "auto"
    ),
}


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where the explicit processes cannot find each other."""
    index, processes = values["distributed.index"], values["distributed.processes"]
    if index >= processes:
        raise InputError(
            f"distributed.index is {index}; expected 0 to {processes - 1},"
            f" for distributed.processes is {processes}"
        )
    coordinator = values["distributed.coordinator"]
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"distributed.coordinator is {coordinator!r}; expected HOST:PORT")
