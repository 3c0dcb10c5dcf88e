"""The keys of a run: its name, folder, seed, checkpoints and logs."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError

_LONGEST_NAME = 255  # bytes, of a folder

OPTIONS: Mapping[str, Option] = {
    "exp_name": Option(
        "str", "name of the run's folder: runs go to <output_dir>/<exp_name>/<timestamp>", "reoac"
    ),
    "output_dir": Option("str", "folder of all runs", "runs"),
    "seed": Option("int", "every random number of a run derives from it", 0, low=0, high=2**31 - 1),
    "checkpoint.every": Option(
        "int",
        "iterations between saves; the last iteration is always saved",
        5,
        low=1,
        high=10**7,
    ),
    "checkpoint.keep_latest": Option("int", "newest checkpoints kept", 2, low=1, high=1000),
    "checkpoint.keep_best": Option(
        "int", "checkpoints kept besides, by their mean reward", 1, low=0, high=1000
    ),
    "logging.samples_per_iter": Option(
        "int", "episodes written to samples/ each iteration", 2, low=0, high=10**6
    ),
    "logging.tensorboard": Option(
        "bool", "write event files to the run's tensorboard/, besides metrics.jsonl", False
    ),
    "logging.wandb": Option(
        "bool", 'send metrics to Weights & Biases (pip install "reoac-jax[wandb]")', False
    ),
}


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where `exp_name` is not the name of one folder."""
    name = values["exp_name"]
    if name != name.strip() or "/" in name or "\\" in name or name in (".", ".."):
        raise InputError(f"exp_name is {name!r}; expected the name of one folder, without slashes")
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"exp_name is {name!r}; expected {_LONGEST_NAME} bytes at most")
