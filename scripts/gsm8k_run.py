"""GSM8K from data to table: fine-tuning, samplers, the trajectory objective, the actor.

    bash scripts/gsm8k.sh [--size owt|qwen3|small] [--data hub|DIR] [--work DIR]
    bash scripts/gsm8k.sh --size owt --dry-run [--device h100]

Stages, each one command of the package: the problems; the published weights, converted and compared
with PyTorch; supervised fine-tuning; samplers on the development split, and the best of them on the
test split; then for each seed the backbone trained over its own denoising, the same samplers on it,
and actors over it, evaluated on all test problems; report, and the model for PyTorch with its card.
A stage is left out when its result is there and of the same configuration, and a training that was
stopped goes on: so the same command continues what was killed. WORK (runs/gsm8k_SIZE) holds all of
it, and at the end table.md, beside the published numbers.

--size: owt, the published 170M backbone, fine-tuned on augmented data; qwen3, Qwen3-0.6B by LoRA;
small, some rows and the bundled backbone, in minutes on a CPU. --data DIR: nothing is downloaded;
DIR holds gsm8k/{train,test}.jsonl, weights/, gpt2/ (owt) and gsm8k_aug/train.txt (owt). --dry-run
prints stages, commands, bytes to download, memory and hours, for the card that is found, or for
--device.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import reoac_jax  # noqa: F401 - first: it says in one line what JAX refuses of the environment

# isort: split
from gsm8k_stages import cost
from gsm8k_stages.running import Work, run_all
from gsm8k_stages.sizes import SIZES, Size
from gsm8k_stages.stages import Stage, hashes, stages_of
from gsm8k_stages.table import write_table

from reoac_jax.config import parse_options
from reoac_jax.config.parameters import nearest
from reoac_jax.devices.compilation import set_up_compilation
from reoac_jax.devices.environment import set_up_jax
from reoac_jax.runs.folder import RunLock
from reoac_jax.system.errors import InputError, run_command

_HUB = "hub"
_WORKER = "--worker"


def main(argv: Sequence[str]) -> int:
    options = _parse(argv)
    size = _chosen(options.size)
    data = _data(options.data, size)
    folder = Path(options.work or f"runs/gsm8k_{size.name}").absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--work is {folder}, a file; expected a folder, or none yet")
    stages, work = stages_of(size, data), Work(folder, data)
    wanted = hashes(stages)
    states = {stage.name: work.state(stage, wanted[stage.name]) for stage in stages}
    if options.dry_run:
        print(plan(size, stages, work, states, options.device))
        return 0
    if not options.worker:
        return supervised([sys.executable, "-u", __file__, *argv, _WORKER], work)
    set_up_jax()
    set_up_compilation("auto")
    folder.mkdir(parents=True, exist_ok=True)
    # Raw problems are written where the command runs.
    with RunLock() as lock, contextlib.chdir(folder):
        lock.take(folder)
        if code := run_all(stages, wanted, work):
            return code
    print(f"\n{write_table(size, folder)}\nwrote {folder}/table.md, table.json, report/ and model/")
    return 0


def supervised(command: Sequence[str], work: Work) -> int:
    """Runs the stages in a process of its own, so that its death can be told.

    Raises `InputError` where it was killed.
    """
    with subprocess.Popen(command) as child, _forwarding(child):
        code = child.wait()
    if code < 0:
        raise InputError(
            f"stage {work.begun() or 'none'} was killed by signal {-code}; the same command goes on"
        )
    return code


@contextlib.contextmanager
def _forwarding(child: subprocess.Popen) -> Iterator[None]:
    """Ctrl-C reaches the child by itself, and SIGTERM through here; its code is waited for."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number)),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def plan(
    size: Size,
    stages: Sequence[Stage],
    work: Work,
    states: dict[str, str],
    device: str | None,
) -> str:
    """What `--dry-run` prints."""
    card = cost.CARDS[device or cost.found_card() or "h100"]
    found = device is None and cost.found_card() is not None
    counted = cost.Counted(size)
    lines, downloads, hours = [], 0.0, 0.0
    for stage in stages:
        one = counted.cost(stage)
        spent = one.operations / (card.peak * cost.SHARE) / 3600
        facts = [f"{one.download / 1e6:.0f} MB to download"] if one.download else []
        if one.operations:
            memory = f"{one.memory / 1e9:.1f} GB"
            facts.append(f"{one.operations / 1e15:.3g} PFLOP, {spent:.2f} h, {memory} on the card")
        lines.append(f"{stage.name} [{states[stage.name]}] {'; '.join(facts)}".rstrip())
        lines.append(f"    {work.shown(stage)}")
        if states[stage.name] != "finished":
            downloads, hours = downloads + one.download, hours + spent
    lines.append(
        f"left to do: {downloads / 1e6:.0f} MB to download (about), {hours:.1f} h on one "
        f"{card.name}{'' if found or device else ' (no card that is known was found here)'}"
    )
    lines.append(
        f"Hours: matrix products, counted in the programs at full row length and most passes, at "
        f"{cost.SHARE:.0%} of {card.peak / 1e12:.0f} TFLOP/s (bfloat16, data sheet). The share is "
        f"assumed; nothing of this was measured. Memory: reckoned, of {card.memory / 1e9:.0f} GB."
    )
    return "\n".join(lines)


def _chosen(name: str) -> Size:
    if name not in SIZES:
        raise InputError(
            f"--size is {name!r}; expected one of {', '.join(SIZES)}{nearest(name, SIZES)}"
        )
    return SIZES[name]


def _data(text: str | None, size: Size) -> Path | None:
    """The folder of the inputs; None: the hub. Raises `InputError` where something is missing."""
    if text == _HUB or (text is None and size.data is None):
        return None
    folder = Path(text).absolute() if text is not None else size.data
    assert folder is not None
    if not folder.is_dir():
        raise InputError(f"--data is {text}; expected {_HUB} or a folder, {folder} is none")
    needed = ["gsm8k/train.jsonl", "gsm8k/test.jsonl"]
    needed += [] if Path(size.published).is_dir() else ["weights"]
    needed += ["gpt2"] if size.tokenizer else []
    needed += ["gsm8k_aug"] if size.augmented else []
    if missing := [name for name in needed if not (folder / name).exists()]:
        raise InputError(f"--data {folder} holds no {missing[0]}; expected {', '.join(needed)}")
    return folder


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bash scripts/gsm8k.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--size", default="owt", help=f"{', '.join(SIZES)} (owt)")
    parser.add_argument("--data", help=f"{_HUB}, or a folder (hub; small: the tests' rows)")
    parser.add_argument("--work", help="the folder of all results (runs/gsm8k_SIZE)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan; run nothing")
    parser.add_argument("--device", choices=sorted(cost.CARDS), help="of --dry-run's hours")
    parser.add_argument(_WORKER, action="store_true", help=argparse.SUPPRESS)
    options = parse_options(parser, argv)
    if options.device is not None and not options.dry_run:
        raise InputError("--device is for --dry-run; expected both or neither")
    return options


if __name__ == "__main__":
    sys.exit(run_command(main))
