"""What a command prints for the user to paste is pasted here, from a run with an unruly name."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import toy
from support.small_run import signal_in_update

from reoac_jax import train
from reoac_jax.system.errors import run_command

ROOT = Path(__file__).resolve().parents[2]
UNRULY = 'my "runs" & it\'s; touch ran $(touch ran) `touch ran`'


@pytest.fixture
def options(tmp_path):
    """The quickest run of train there is, in a folder with spaces, quotes and substitutions."""
    backbone = toy.word_backbone(tmp_path / "toy", scale=0.05)
    return [
        "--config", str(ROOT / "configs" / "tiny.py"),
        f"--config.backbone.path={backbone}",
        f"--config.output_dir={tmp_path / UNRULY}",
        "--config.backbone.finetune_mode=frozen",
        "--config.task.train_size=20",
        "--config.task.test_size=4",
        "--config.rollout.max_steps=2",
        "--config.rollout.batch_size=4",
        "--config.train.iterations=2",
        "--config.train.episodes_per_iter=8",
        "--config.train.episodes_per_prompt=2",
        "--config.train.critic_steps=1",
        "--config.train.actor_steps=1",
        "--config.train.head_batch=8",
        "--config.train.buffer_size=8",
        "--config.evaluation.batch_size=4",
    ]  # fmt: skip


def paste(command: str, folder: Path) -> str:
    """What bash prints when `command` is pasted; `python` is the one of the tests."""
    assert command.startswith("python -m reoac_jax.")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHON": sys.executable,
        "JAX_NUM_CPU_DEVICES": "4",  # as here, so that one program serves both
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax_tests"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.03",
    }
    done = subprocess.run(
        ["bash", "-c", f'python() {{ "$PYTHON" "$@"; }}; {command}'],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (folder / "ran").exists()
    return done.stdout


def after(label: str, text: str) -> str:
    (line,) = [line for line in text.splitlines() if label in line]
    return line.partition(label)[2]


@pytest.mark.slow
@pytest.mark.process
def test_everything_printed_can_be_pasted(options, tmp_path, monkeypatch, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    signal_in_update(monkeypatch, 1, signal.SIGTERM)
    assert run_command(train.main, options) == 143
    printed = paste(after("go on with: ", capsys.readouterr().err), elsewhere)
    (run,) = (tmp_path / UNRULY / "tiny").iterdir()
    assert after("done: ", printed) == str(run)
    evaluated = paste(after("evaluate it: ", printed), elsewhere)
    assert f"wrote {run / 'evaluation.json'}" in evaluated and (run / "evaluation.jsonl").is_file()
    reported = paste(after("look at it: ", printed), elsewhere)
    assert str(run / "report" / "index.html") in reported
    assert not (tmp_path / "ran").exists() and not Path("ran").exists()
