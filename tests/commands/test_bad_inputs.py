"""Bad input to every command line: exit 2, one line that says it all, nothing changed on disk.

Each case stands in a folder of its own, a copy of `bad_inputs.world`, which it may damage first.
Further mistakes of single commands are tested beside what they belong to.
"""

import hashlib
import io
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
from support.bad_inputs import configurations, models, outputs, problems
from support.bad_inputs.case import TINY, Case
from support.bad_inputs.world import ROOT, build

from reoac_jax import evaluate, sft, solve, train, watch
from reoac_jax.convert import flax_to_mdlm, mdlm_to_flax, peft_to_flax
from reoac_jax.devices import compilation
from reoac_jax.report import __main__ as report
from reoac_jax.system.errors import run_command
from reoac_jax.tasks import prepare

COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "sft": sft,
    "solve": solve,
    "report": report,
    "watch": watch,
    "prepare": prepare,
    "mdlm_to_flax": mdlm_to_flax,
    "flax_to_mdlm": flax_to_mdlm,
    "peft_to_flax": peft_to_flax,
}
CASES = configurations.CASES | models.CASES | problems.CASES | outputs.CASES


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    build(folder)
    return folder


@pytest.fixture
def folder(world, tmp_path):
    """A copy that a case may damage."""
    return shutil.copytree(world, tmp_path / "folder")


def on_disk(folder: Path) -> dict[Path, str | None]:
    """Every path in the folder with its content's hash; but for a run's lock, which names the
    process that last held it."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


def check_line(text: str, named: str) -> None:
    """`text`, all of standard error, is one line and names everything in `named`."""
    assert text.startswith("error: ") and text.count("\n") == 1 and text.endswith("\n"), text
    for name in named.split("|"):
        assert name in text
    # What the command line's own grammar expects, argparse says in its own words.
    assert any(words in text for words in ("expected", "; try --help", "did you mean"))


SLOW = ("overlay of another rank",)  # refused where the weights are merged
EVERY = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES]


@pytest.mark.parametrize("name", EVERY)
def test_bad_input_gets_one_line_and_changes_nothing(name, folder, capsys, monkeypatch):
    case = CASES[name]
    command, *argv = case.command.split()
    argv = ["" if word == "''" else word for word in argv]
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(case.piped or b""), "utf-8"))
    monkeypatch.setattr(compilation, "_WORTH_SAYING", math.inf)  # a busy machine takes seconds
    monkeypatch.chdir(folder)
    if case.damage is not None:
        case.damage(folder)
    before = on_disk(folder)
    code = run_command(COMMANDS[command].main, argv)
    printed = capsys.readouterr()
    assert on_disk(folder) == before
    assert code == 2, printed.err
    check_line(printed.err, case.named)


# As a user's shell starts it. One is not UTF-8, which only the system hands over.
PROCESSES = {
    "argument that is not UTF-8": Case(
        f"train {TINY} --config.exp_name=\udcff", "exp_name|not UTF-8|expected"
    ),
    "question that is not UTF-8": Case(
        "solve --checkpoint run", "'\\udcff' is not UTF-8|expected", piped=b"\xff\n"
    ),
    "data of a hub out of reach": Case("prepare gsm8k gsm8k.py all", "openai/gsm8k|--source DIR"),
}


@pytest.mark.process
@pytest.mark.parametrize("name", PROCESSES)
def test_bad_input_to_a_process(name, folder, tmp_path):
    case = PROCESSES[name]
    before = on_disk(folder)
    environment = {
        "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "reoac_jax", *map(os.fsencode, case.command.split())],
        cwd=folder, env=os.environ | environment, input=case.piped or b"", capture_output=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == b"", done
    assert done.stderr.count(b"error: ") == 1 and b"Traceback" not in done.stderr
    # A busy machine may have told before what it is working on.
    check_line(done.stderr.decode().splitlines()[-1] + "\n", case.named)
    assert on_disk(folder) == before


def test_there_are_enough():
    assert len(CASES) + len(PROCESSES) >= 80
