"""Several processes as one run: how they find each other, divide the work and share results.

Each process rolls out and grades its own episodes on its own devices, and the results go to all
(`all_gather`), so that replay, and all that follows from it, is the same in every process. The
updates then run on the mesh of all devices (`reoac_jax.devices.sharding`).
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from reoac_jax.devices.environment import check_devices
from reoac_jax.system.errors import EXIT_FAILED, InputError, RunError

_JOIN_LIMIT = 300  # seconds until all processes must have come
_SILENCE_LIMIT = 30  # seconds without a sign of life after which a process counts as dead
_LEAVE_LIMIT = 10  # seconds a process waits for the others when it ends
Answer = TypeVar("Answer")
_MESSAGE_BYTES = 4096


@contextlib.contextmanager
def joined(config: ConfigDict) -> Iterator[None]:
    """Makes this process one of a run's, as the section `distributed` says; use it once.

    No device may have been touched before. A process that dies, or ends in an error, ends the
    others: at the next exchange, or when nothing was heard of it for half a minute.

    Raises:
      InputError: no cluster was found, the coordinator's port cannot be used, or JAX has no device.
    """
    mode = config.distributed.mode
    if mode == "off":
        check_devices()
        yield
        return
    _initialize(config.distributed)
    check_devices()
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        # Without leaving in order: that would wait for the process that is lost.
        reason = str(error).strip().splitlines()[0]
        print(
            f"error: process {jax.process_index()} of {jax.process_count()} cannot go on, because "
            f"another one died or a device failed ({reason}); when all have ended, go on from the "
            "last checkpoint with --resume",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_FAILED)


def _initialize(distributed: ConfigDict) -> None:
    explicit = {}
    if distributed.mode == "explicit":
        explicit = {
            "coordinator_address": distributed.coordinator,
            "num_processes": distributed.processes,
            "process_id": distributed.index,
            "cluster_detection_method": "deactivate",
        }
    # Its own handler of SIGTERM would take the place of training's, which saves.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **explicit,
            initialization_timeout=_JOIN_LIMIT,
            heartbeat_timeout_seconds=_SILENCE_LIMIT,
            shutdown_timeout_seconds=_LEAVE_LIMIT,
        )
    except ValueError as error:
        raise InputError(
            f"distributed.mode is auto, but no cluster was found in the environment ({error}); "
            "expected a job started with srun, or mode explicit"
        ) from error
    except RuntimeError as error:
        raise InputError(f"the processes of the run did not find each other: {error}") from error


def is_first() -> bool:
    """Whether this process writes the run's files and talks to the user."""
    return jax.process_index() == 0


def own_share(count: int) -> slice:
    """The run of `count` items that this process works on; shares differ by one at most.

    Raises `ValueError` where a process would get none.
    """
    return _shares(count)[jax.process_index()]


def all_gather(tree: Any, count: int) -> Any:
    """The rows of all processes, in order.

    Args:
      tree: NumPy arrays `[n, ...]`, the rows of this process's `own_share(count)`.

    Returns:
      NumPy arrays `[count, ...]`, the same in every process.
    """
    if jax.process_count() == 1:
        return tree
    shares = _shares(count)
    longest = max(share.stop - share.start for share in shares)

    def gather(x: np.ndarray) -> np.ndarray:
        # Of equal length, for the exchange; one field at a time, to hold little twice.
        padded = np.concatenate([x, np.zeros((longest - len(x), *x.shape[1:]), x.dtype)])
        parts = multihost_utils.process_allgather(padded)
        return np.concatenate(
            [part[: s.stop - s.start] for part, s in zip(parts, shares, strict=True)]
        )

    return jax.tree.map(gather, tree)


def all_reduce_max(value: int) -> int:
    """The largest of the values that the processes give; all must ask."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def broadcast(make: Callable[[], Answer]) -> Answer:
    """Calls `make` in the first process alone, and gives its result, a JSON value, to all.

    All must ask.

    Raises `InputError` in all where it raises one in the first.
    """
    if jax.process_count() == 1:
        return make()
    answer: dict[str, Any] = {}
    if is_first():
        try:
            answer = {"value": make()}
        except InputError as error:
            answer = {"error": str(error)}
    message = np.zeros(_MESSAGE_BYTES, np.uint8)
    encoded = json.dumps(answer).encode()
    if len(encoded) > _MESSAGE_BYTES:
        raise RunError(f"a message of {len(encoded)} bytes to the other processes is too long")
    message[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    sent = bytes(multihost_utils.broadcast_one_to_all(message)).rstrip(b"\0")
    answer = json.loads(sent)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["value"]


def _shares(count: int) -> list[slice]:
    processes = jax.process_count()
    if count < processes:
        raise ValueError(f"{count} items for {processes} processes; expected one each, or more")
    bounds = [count * index // processes for index in range(processes + 1)]
    return [slice(*ends) for ends in zip(bounds, bounds[1:], strict=False)]
