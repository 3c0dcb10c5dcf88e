"""Asks a GPU what only a GPU can answer: right numbers, and speed.

    bash scripts/gpu_check.sh --output benchmarks/gpu_h100.json

Parts, each written to the file as soon as it is there: parity with float32 on the CPU; the shares
of the measured matrix ceiling that rollout, LoRA and full update reach; cuDNN's attention beside
XLA's; how many logits at a time; the threshold sampler; PyTorch, eager and compiled, beside ours.
Without `--parts` those run that the file has not. Programs of a part run in turns after a warm-up,
and a number is the median. Speed is of bfloat16, on random weights and prompts of GSM8K's lengths.
"""

import argparse
import dataclasses
import gc
import importlib.util
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# What is imported below, directly or not.
_NEEDED = (
    "jax",
    "numpy",
    "flax",
    "optax",
    "ml_collections",
    "absl",
    "yaml",
    "safetensors",
)
_missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
if _missing:
    print(
        f"error: this Python has no {', '.join(_missing)}; expected them installed, or carried "
        "along as scripts/gpu_check.sh says",
        file=sys.stderr,
    )
    sys.exit(2)

import jax  # noqa: E402
from benchmark import kernels, machine, ours, parity  # noqa: E402
from benchmark.inputs import make_inputs  # noqa: E402
from benchmark.measure import CEILING, Program, time_together  # noqa: E402
from benchmark.workload import WORKLOADS, Workload  # noqa: E402

from reoac_jax.config import parse_options  # noqa: E402
from reoac_jax.system.errors import InputError, run_command  # noqa: E402
from reoac_jax.system.files import write_json  # noqa: E402

_DTYPE = "bfloat16"
# Shares of the ceiling that are aimed at.
TARGETS = {"rollout": 0.45, "lora": 0.40, "full": 0.40}


@dataclasses.dataclass(frozen=True)
class Size:
    """workload: what is run. attention: lengths of its rows, and the tokens of its batches.

    logits: numbers at a time. matrix: rows and columns of the ceiling's product; None: enough for
    the device.
    """

    workload: Workload
    attention: tuple[Sequence[int], int]
    logits: Sequence[int]
    matrix: int | None


# One block, to compile fast: this size shows that every part runs.
_TINY = dataclasses.replace(
    WORKLOADS["tiny"], config=dataclasses.replace(WORKLOADS["tiny"].config, n_blocks=1)
)
# Of "owt" more rows than configs/gsm8k.py has in a batch (32 and 16), so that a card is filled.
SIZES = {
    "owt": Size(
        dataclasses.replace(WORKLOADS["owt"], rows=256, update_rows=64),
        ((128, 320, 640), 2**15),
        [2**n for n in (23, 25, 27, 28, 29)],
        None,
    ),
    "tiny": Size(
        dataclasses.replace(_TINY, rows=8, update_rows=8, steps=2),
        ((32,), 2**8),
        [2**16, 2**23],
        256,
    ),
}


def main(argv: Sequence[str]) -> int:
    began, options = time.monotonic(), _parse(argv)
    size = SIZES[options.size]
    if options.rows is not None:
        workload = dataclasses.replace(size.workload, rows=options.rows, update_rows=options.rows)
        size = dataclasses.replace(size, workload=workload)
    result = _begin(options, size.workload)
    asked = options.parts or [name for name in PARTS if name not in result["parts"]]
    failed = []
    for name in asked:
        spent = time.monotonic() - began
        if spent > options.seconds:
            print(f"{name}: left out, {spent:.0f} s are over; the same command goes on with it")
            continue
        try:
            part = PARTS[name](size, options.repeats)
        # A part may not fit the card's memory, or a compiler be missing; the next one still counts.
        except Exception as error:
            failed.append(name)
            print(f"{name}: failed: {_one_line(error)}", flush=True)
            continue
        result["parts"][name] = part | {"seconds": time.monotonic() - began - spent}
        if options.output is not None:
            write_json(options.output, result)
        _show(name, part)
        if not part.get("within", True):
            failed.append(name)
    print(f"{len(result['parts'])} of {len(PARTS)} parts are there", end="")
    print(f"; not as they should be: {', '.join(failed)}" if failed else "")
    return int(bool(failed))


def _begin(options: argparse.Namespace, workload: Workload) -> dict[str, Any]:
    """The parts that are there already, of this device and size; else none."""
    result: dict[str, Any] = {
        "command": shlex.join(["bash", "scripts/gpu_check.sh", *options.argv]),
        "size": options.size,
        "rows": workload.rows,
        "update_rows": workload.update_rows,
        "gen_len": workload.gen_len,
        "steps": workload.steps,
        "machine": machine.describe(),
        "parts": {},
    }
    print(f"{result['machine']['device']}; {result['machine']['driver'] or 'no NVIDIA driver'}")
    if options.output is None or not options.output.exists():
        return result
    try:
        before = json.loads(options.output.read_text(encoding="utf-8"))
        kept = before["parts"]
        for key in ("size", "rows", "update_rows", "gen_len", "steps"):
            _same(options.output, key, before[key], result[key])
        for key in ("device", "driver", "versions"):
            _same(options.output, key, before["machine"][key], result["machine"][key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--output {options.output} is no file of this check; name another"
        ) from error
    return result | {"parts": kept}


def _same(path: Path, key: str, before: Any, now: Any) -> None:
    if before != now:
        raise InputError(f"--output {path} has {key} {before}, this is {now}; name another file")


def _parity(size: Size, repeats: int) -> dict[str, Any]:
    found = parity.compare(size.workload)
    return {
        "bounds": parity.BOUNDS,
        "within": all(difference.within for difference in found),
        "differences": [dataclasses.asdict(difference) for difference in found],
    }


def _timed(make: Callable[[Size], list[Program]]) -> Callable[[Size, int], dict[str, Any]]:
    """A part that times programs in turns with the matrix product that is their ceiling."""

    def part(size: Size, repeats: int) -> dict[str, Any]:
        gc.collect()  # weights and optimisers of the part before
        ceiling = [p for p in machine.matmul_programs(size.matrix) if p.dtype == _DTYPE]
        timings = time_together([*ceiling, *make(size)], repeats, group="gpu_check")
        return {"programs": [dataclasses.asdict(timing) for timing in timings]}

    return part


def _ceilings(size: Size, repeats: int) -> dict[str, Any]:
    programs = [*machine.matmul_programs(size.matrix), machine.copy_program()]
    timings = time_together(programs, repeats)
    return {"programs": [dataclasses.asdict(timing) for timing in timings]}


def _rollout(size: Size) -> list[Program]:
    inputs = make_inputs(size.workload)
    return [ours.rollout_program(size.workload, inputs, _DTYPE)]


def _update(mode: str) -> Callable[[Size], list[Program]]:
    def programs(size: Size) -> list[Program]:
        inputs = make_inputs(size.workload)
        return [ours.update_program(size.workload, inputs, mode, _DTYPE)]

    return programs


def _attention(size: Size) -> list[Program]:
    return kernels.attention_programs(size.workload, *size.attention, _DTYPE)


def _logits(size: Size) -> list[Program]:
    return kernels.logits_programs(size.workload, size.logits, _DTYPE)


def _threshold(size: Size) -> list[Program]:
    inputs = make_inputs(size.workload)
    return [ours.threshold_program(size.workload, inputs, _DTYPE)]


def _pytorch(size: Size) -> list[Program]:
    if importlib.util.find_spec("torch") is None:
        raise InputError("this Python has no torch")
    from benchmark import reference

    workload, inputs = size.workload, make_inputs(size.workload)
    programs = [ours.forward_program(workload, inputs, _DTYPE)]
    programs += [reference.forward_program(workload, inputs, _DTYPE, c) for c in (False, True)]
    for mode in ("lora", "full"):
        programs.append(ours.update_program(workload, inputs, mode, _DTYPE))
        for compiled in (False, True):
            programs.append(reference.update_program(workload, inputs, mode, _DTYPE, compiled))
    return programs


# In the order in which they run: what matters most comes first.
PARTS: dict[str, Callable[[Size, int], dict[str, Any]]] = {
    "ceilings": _ceilings,
    "parity": _parity,
    "rollout": _timed(_rollout),
    "lora": _timed(_update("lora")),
    "full": _timed(_update("full")),
    "attention": _timed(_attention),
    "logits": _timed(_logits),
    "threshold": _timed(_threshold),
    "pytorch": _timed(_pytorch),
}


def _show(name: str, part: dict[str, Any]) -> None:
    for found in part.get("differences", ()):
        verdict = "within" if found["within"] else "NOT within"
        print(
            f"{name}: {found['dtype']} ({found['attention']} attention): log-probabilities differ "
            f"by {found['largest_log_prob']:.2g} nats at most, gradients by "
            f"{found['gradient']:.1g} (1 - cosine); {verdict} the bounds",
            flush=True,
        )
    for timing in part.get("programs", ()):
        text = f"{name}: {timing['name']}: {1e3 * timing['seconds']:.2f} ms"
        is_ceiling = timing["name"] == CEILING.format(timing["dtype"])
        if is_ceiling:
            text += f", {timing['operations_per_second'] / 1e12:.3g} TFLOP/s"
        elif timing["ceiling_share"] is not None:
            text += f", {timing['rows_per_second']:.1f} rows/s"
            text += f", {timing['ceiling_share']:.0%} of the ceiling"
            if name in TARGETS:
                text += f" (target {TARGETS[name]:.0%})"
        print(text, flush=True)


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bash scripts/gpu_check.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--size", choices=tuple(SIZES), default="owt")
    parser.add_argument("--parts", default="", help=f"run again some of {','.join(PARTS)}")
    parser.add_argument("--output", type=Path, help="JSON file to write, or to go on with")
    parser.add_argument("--seconds", type=float, default=420.0, help="no part begins after these")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, help="rows of a batch, instead of the size's own")
    options = parse_options(parser, argv)
    options.argv = list(argv)
    given = [name for name in options.parts.split(",") if name]
    if any(name not in PARTS for name in given):
        raise InputError(f"--parts is {options.parts!r}; expected some of {','.join(PARTS)}")
    options.parts = given
    for name in ("repeats", "rows"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; expected 1 or more")
    if not options.seconds > 0:
        raise InputError(f"--seconds is {options.seconds}; expected more than 0")
    if options.size == "owt" and jax.default_backend() == "cpu" and options.rows is None:
        raise InputError(
            "--size owt is for a GPU and JAX finds none; expected --size tiny or --rows"
        )
    return options


if __name__ == "__main__":
    sys.exit(run_command(main))
