"""Times our programs beside PyTorch's and the machine's own ceilings, in one run.

    python scripts/bench.py --size owt --output benchmarks/NAME.json
    python scripts/bench.py --size tiny --what matmul,rollout --repeats 3

A large matrix product in each compute dtype takes its turn with the programs: its speed is the
ceiling that their share is measured against. Programs that are compared run in turns, and a number
is the median over the turns after a warm-up. Weights are random, prompts have GSM8K's lengths, and
every result is checked to be finite. `operations` counts what cannot be left out: real tokens only,
the head at generated positions only. Without torch its rows are left out.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import reoac_jax  # noqa: F401 - first: it says in one line what JAX refuses of the environment

# isort: split
from benchmark import coldstart, lengths, machine, ours
from benchmark.inputs import make_inputs
from benchmark.measure import Program, Timing, release_freed_memory, time_together
from benchmark.workload import WORKLOADS

from reoac_jax.config import parse_options
from reoac_jax.devices.cpu import keep_freed_memory
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import write_json

WHAT = ("matmul", "forward", "rollout", "lora", "full", "sft", "lengths", "coldstart")
HAS_TORCH = importlib.util.find_spec("torch") is not None


def main(argv: Sequence[str]) -> int:
    options = _parse(argv)
    keep_freed_memory()  # as the commands do
    workload = WORKLOADS[options.size]
    if options.rows is not None:
        workload = dataclasses.replace(workload, rows=options.rows, update_rows=options.rows)
    if options.steps is not None:
        workload = dataclasses.replace(workload, steps=options.steps)
    result: dict[str, Any] = {
        "command": shlex.join(["python", "scripts/bench.py", *argv]),
        "size": options.size,
        "rows": workload.rows,
        "gen_len": workload.gen_len,
        "steps": workload.steps,
        "machine": machine.describe(),
    }
    timings = time_together([*machine.matmul_programs(), machine.copy_program()], options.repeats)
    result["ceilings"] = {t.name: t.operations_per_second for t in timings[:-1]}
    result["ceilings"]["copy, bytes"] = timings[-1].bytes / timings[-1].seconds
    print(_header())
    _show(timings)
    inputs = make_inputs(workload)
    for what, build in _groups(options.dtypes).items():
        if what in options.what:
            programs = [make(workload, inputs) for make in build]
            group = time_together(
                [*machine.matmul_programs(), *programs], options.repeats, group=what
            )
            _show(group)
            timings += group
            del programs
            release_freed_memory()  # of weights and optimisers that the next group does not need
    result["programs"] = [dataclasses.asdict(timing) for timing in timings]
    if "coldstart" in options.what:
        result["coldstart"] = coldstart.measure()
        text = "cold start of train on configs/tiny.py: {first:.1f} s, then {second:.1f} s: "
        text += "{imports:.1f} s of imports, {second_iteration:.1f} s of the iteration itself"
        print(text.format(**result["coldstart"]))
    result["machine"]["load_after"] = os.getloadavg()[0]
    if options.output is not None:
        write_json(options.output, result)
        print(f"wrote {options.output}")
    else:
        print(json.dumps(result["ceilings"]))
    return 0


def _groups(dtypes: Sequence[str]) -> dict[str, list[Callable[..., Program]]]:
    """What is timed together, by the name it is asked for with."""
    groups: dict[str, list[Callable[..., Program]]] = {
        "forward": [lambda w, i, d=d: ours.forward_program(w, i, d) for d in dtypes],
        "rollout": [lambda w, i, d=d: ours.rollout_program(w, i, d) for d in dtypes],
    }
    for mode in ("lora", "full"):
        groups[mode] = [lambda w, i, m=mode, d=d: ours.update_program(w, i, m, d) for d in dtypes]
    groups["sft"] = [lambda w, i, d=d: ours.supervised_program(w, i, d) for d in dtypes]
    groups["sft"] += [lambda w, i, d=d: ours.products_program(w, i, d) for d in dtypes]
    groups["lengths"] = [
        lambda w, _, k=like, d=d: lengths.updates_program(w, d, k)
        for d in dtypes
        for like in (False, True)
    ]
    groups["lora"].append(lambda w, i: ours.update_program(w, i, "lora", dtypes[0], remat=True))
    if HAS_TORCH:
        from benchmark import reference

        for d in dtypes:
            forward = lambda w, i, d=d: reference.forward_program(w, i, d)  # noqa: E731
            groups["forward"].append(forward)
            groups["rollout"].append(forward)  # the rollout's yardstick, side by side
            for mode in ("lora", "full"):
                groups[mode].append(lambda w, i, m=mode, d=d: reference.update_program(w, i, m, d))
    return groups


def _header() -> str:
    return (
        f"{'program':<36} {'seconds':>9} {'of ceiling':>10} {'rows/s':>9} {'memory':>9} "
        f"{'temporary':>9} {'padding':>8} {'compiled':>12}"
    )


def _show(timings: Sequence[Timing]) -> None:
    for t in timings:
        share = "" if t.ceiling_share is None else f"{t.ceiling_share:.0%}"
        padding = "" if t.padding_share is None else f"{t.padding_share:.1%}"
        memory = "" if t.peak_bytes is None else f"{t.peak_bytes / 1e9:.2f} GB"
        temporary = "" if t.temporary_bytes is None else f"{t.temporary_bytes / 1e9:.2f} GB"
        compiled = f"{t.compilations} in {t.compile_seconds:.1f} s" if t.compilations else ""
        print(
            f"{t.name:<36} {t.seconds:>9.4f} {share:>10} {t.rows_per_second:>9.2f} {memory:>9} "
            f"{temporary:>9} {padding:>8} {compiled:>12}",
            flush=True,
        )


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=tuple(WORKLOADS), default="tiny")
    parser.add_argument("--what", default=",".join(WHAT), help=f"some of {','.join(WHAT)}")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, help="rows of a batch, instead of the size's own")
    parser.add_argument("--steps", type=int, help="steps of the rollout, likewise")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="compute dtypes")
    options = parse_options(parser, argv)
    for name, allowed in (("what", WHAT), ("dtypes", ("float32", "bfloat16"))):
        given = tuple(filter(None, getattr(options, name).split(",")))
        if not given or any(item not in allowed for item in given):
            raise InputError(
                f"--{name} is {getattr(options, name)!r}; expected some of {','.join(allowed)}"
            )
        setattr(options, name, given)
    for name in ("repeats", "rows", "steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; expected 1 or more")
    return options


if __name__ == "__main__":
    sys.exit(run_command(main))
