"""Every command whose standard output is full or read by nobody: one line, or none; no traceback.

What the streams themselves do is tested in tests/system/test_streams.py.
"""

import os
import shutil
import sys

import pytest
from support.bad_inputs.case import SFT, TINY
from support.bad_inputs.world import ROOT, build
from support.small_run import share_programs

from reoac_jax import evaluate, sft, solve, train, watch
from reoac_jax.convert import flax_to_mdlm, mdlm_to_flax, peft_to_flax
from reoac_jax.report import __main__ as report
from reoac_jax.system.errors import run_command
from reoac_jax.tasks import prepare

pytestmark = pytest.mark.slow

SMALL = "--config.rollout.max_steps=2 --config.evaluation.batch_size=4"
QUICK = (
    f"{SMALL} --config.rollout.batch_size=4 --config.train.iterations=1"
    " --config.train.episodes_per_iter=4 --config.train.episodes_per_prompt=2"
    " --config.train.critic_steps=1 --config.train.actor_steps=1 --config.train.head_batch=4"
    " --config.train.buffer_size=4 --config.backbone.finetune_mode=frozen"
)
COMMANDS = {
    "train": (train, f"{TINY} {QUICK}"),
    "evaluate": (evaluate, f"{TINY} {SMALL} --policy O_OP --limit 4 --output out.json"),
    "sft": (sft, f"{SFT} --config.sft.eval_samples=1 --eval-only --text train.jsonl"),
    "solve": (solve, f"--checkpoint run {SMALL} 3"),
    "watch": (watch, "run"),
    "report": (report, "run"),
    "prepare": (prepare, "gsm8k gsm8k.py all --source raw"),
    "mdlm_to_flax": (mdlm_to_flax, f"--source {ROOT}/tests/golden/mdlm_small --output new"),
    "flax_to_mdlm": (flax_to_mdlm, "--source backbone --output new"),
    "peft_to_flax": (peft_to_flax, "--adapter adapter --base backbone --output new"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    build(folder)
    return folder


def full():
    return open("/dev/full", "w", encoding="utf-8")


def unread():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w", encoding="utf-8")


@pytest.fixture(scope="module")
def built():
    return {}


@pytest.mark.parametrize("lost", [full, unread])
@pytest.mark.parametrize("name", COMMANDS)
def test_lost_output(name, lost, world, built, tmp_path, capsys, monkeypatch):
    share_programs(monkeypatch, built)  # a command's two runs differ in what is lost
    monkeypatch.chdir(shutil.copytree(world, tmp_path / "folder"))
    module, arguments = COMMANDS[name]
    with lost() as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        code = run_command(module.main, arguments.split())
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    if lost is unread:
        assert code == 141 and errors == []
    else:
        assert code == 1
        assert len(errors) == 1 and "standard output" in errors[0] and "No space" in errors[0]
