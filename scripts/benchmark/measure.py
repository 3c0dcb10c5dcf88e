"""Timing of programs side by side: medians over rounds in which each of them runs once."""

import contextlib
import ctypes
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reoac_jax.devices.compilation import COMPILE_EVENT

CEILING = "matrix product {}"  # the program whose speed is the ceiling of a dtype
# Until the memory that programs leave to each other is in use: a first touch of a page costs more.
_WARM_ROUNDS = 2
_compiled: list[float] = []  # seconds of each compilation in this process


def _note_compilation(event: str, seconds: float, **_: Any) -> None:
    if event == COMPILE_EVENT:
        _compiled.append(seconds)


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


@dataclasses.dataclass(frozen=True)
class Program:
    """Something to time.

    run: one whole run, blocking, its result in numbers. operations: floating-point operations that
    a run cannot do without. bytes: that it must read. rows: that a run works on, once for each
    forward pass of a row in a rollout. dtype: whose ceiling it is held against.
    computed_tokens, needed_tokens: with and without padding and idle slots. temporary_bytes: what
    the compiled program holds besides its arguments and results.
    """

    name: str
    run: Callable[[], np.ndarray | float]
    operations: float
    bytes: float
    rows: float
    dtype: str
    computed_tokens: float = 0.0
    needed_tokens: float = 0.0
    temporary_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Timing:
    """What is written of a program; `seconds` is the median, and all seconds are of one run.

    Programs of one `group` ran in turns; `ceiling_share` is of the matrix product among them.
    """

    group: str
    name: str
    dtype: str
    seconds: float
    fastest: float
    slowest: float
    repeats: int
    rows_per_second: float
    operations: float
    bytes: float
    operations_per_second: float
    ceiling_share: float | None
    padding_share: float | None
    peak_bytes: int | None
    temporary_bytes: int | None
    compilations: int
    compile_seconds: float


def time_together(
    programs: Sequence[Program], repeats: int, group: str = "ceilings"
) -> list[Timing]:
    """Times programs in turns, so that whatever disturbs the machine disturbs all of them.

    Args:
      group: their common name.

    Raises:
      FloatingPointError: a program's result is not finite.
    """
    warm, peak = {}, {}
    for program in programs:
        before = len(_compiled)
        with _PeakMemory() as memory:
            result = program.run()
        if not np.isfinite(result).all():
            raise FloatingPointError(f"{program.name} gave {result}")
        warm[program.name], peak[program.name] = _compiled[before:], memory.bytes
    for _ in range(_WARM_ROUNDS):
        for program in programs:
            program.run()
    seconds: dict[str, list[float]] = {program.name: [] for program in programs}
    for _ in range(repeats):
        for program in programs:
            began = time.perf_counter()
            program.run()
            seconds[program.name].append(time.perf_counter() - began)
    medians = {program.name: statistics.median(seconds[program.name]) for program in programs}
    ceilings = {
        program.dtype: program.operations / medians[program.name]
        for program in programs
        if program.name == CEILING.format(program.dtype)
    }
    timings = []
    for program in programs:
        own, median = seconds[program.name], medians[program.name]
        rate, ceiling = program.operations / median, ceilings.get(program.dtype)
        padding = None
        if program.computed_tokens:
            padding = 1.0 - program.needed_tokens / program.computed_tokens
        timings.append(
            Timing(
                group=group,
                name=program.name,
                dtype=program.dtype,
                seconds=median,
                fastest=min(own),
                slowest=max(own),
                repeats=repeats,
                rows_per_second=program.rows / median,
                operations=program.operations,
                bytes=program.bytes,
                operations_per_second=rate,
                ceiling_share=rate / ceiling if ceiling else None,
                padding_share=padding,
                peak_bytes=peak[program.name],
                temporary_bytes=program.temporary_bytes,
                compilations=len(warm[program.name]),
                compile_seconds=sum(warm[program.name]),
            )
        )
    return timings


def release_freed_memory() -> None:
    """Hands the kernel what `keep_freed_memory` has kept and nothing uses, under glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _PeakMemory:
    """The most memory in use inside a `with`: of the device, or on CPU resident in this process.

    The weights of all programs that are timed together are in it.
    """

    bytes: int | None = None

    def __enter__(self) -> "_PeakMemory":
        if jax.default_backend() == "cpu":
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
        return self

    def __exit__(self, *exception: object) -> None:
        if jax.default_backend() != "cpu":
            self.bytes = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
            return
        with contextlib.suppress(OSError):
            lines = Path("/proc/self/status").read_text().splitlines()
            peak = next(line for line in lines if line.startswith("VmHWM:"))
            self.bytes = int(peak.split()[1]) * 1024
