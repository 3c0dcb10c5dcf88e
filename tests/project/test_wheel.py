"""The built wheel, away from the checkout: what is in it, and its commands in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# In one process, as each start costs seconds; a user types these as `reoac COMMAND ...`.
COMMANDS = """
import sys
from pathlib import Path

import reoac_jax
from reoac_jax import evaluate, sft, train
from reoac_jax.convert import flax_to_mdlm, peft_to_flax
from reoac_jax.system.errors import run_command

assert Path(reoac_jax.__file__).is_relative_to(sys.argv[1]), reoac_jax.__file__
for command in (sft, peft_to_flax):
    try:
        command.main(["--help"])
    except SystemExit as stop:
        assert stop.code == 0
tiny = [
    "--config", "mine.py", "--config.train.iterations=1", "--config.train.episodes_per_iter=2",
    "--config.train.episodes_per_prompt=2", "--config.task.train_size=9",
    "--config.task.test_size=4", "--config.rollout.max_steps=2", "--config.train.actor_steps=0",
    "--config.train.critic_steps=0", "--config.backbone.finetune_mode=lora",
    "--config.train.backbone_steps=0", "--config.evaluation.batch_size=2",
]
assert run_command(train.main, tiny) == 0
assert run_command(evaluate.main, [*tiny, "--policy", "confidence", "--output", "e.json"]) == 0
run = str(next(Path("runs/tiny").iterdir()))
argv = ["--checkpoint", run, "--output", "adapter", "--peft"]
assert run_command(flax_to_mdlm.main, argv) == 0
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, for a build leaves folders beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(
        ROOT / "reoac_jax", source / "reoac_jax", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


def pip(command, *arguments):
    argv = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*argv, *arguments], capture_output=True, text=True, check=False,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "reoac_jax").rglob("*.py")}
    assets = {str(path.relative_to(ROOT)) for path in (ROOT / "reoac_jax").rglob("assets/*")}
    assert assets and names == modules | assets | {"reoac_jax/py.typed"}


@pytest.mark.slow
@pytest.mark.process
def test_its_commands_run_in_an_empty_folder(wheel, tmp_path):
    site, home = tmp_path / "site", tmp_path / "home"
    pip("install", "--target", site, wheel)
    home.mkdir()
    shutil.copy(ROOT / "configs" / "tiny.py", home / "mine.py")
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax_tests"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.03",
    }

    def python(*arguments):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=home, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    argv = ["--source", ROOT / "data" / "tiny_mdlm", "--output", "checkpoints/tiny_mdlm"]
    report = python(site / "bin" / "reoac", "mdlm_to_flax", *argv)
    assert json.loads(report.splitlines()[-1])["output"] == "checkpoints/tiny_mdlm"
    python("-c", COMMANDS, site)
    assert json.loads((home / "e.json").read_text())["samples"] == 4
    card = (home / "adapter" / "README.md").read_text()
    assert "1 of 1 iterations" in card
    assert {path.name for path in home.iterdir()} == {
        "mine.py", "checkpoints", "runs", "e.json", "e.jsonl", "adapter",
    }  # fmt: skip
