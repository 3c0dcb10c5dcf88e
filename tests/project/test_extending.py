"""docs/extending.md, done as it says: a task and a sampler evaluated, others put in."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import toy

from reoac_jax import evaluate
from reoac_jax.system.errors import run_command
from reoac_jax.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
TINY = ROOT / "configs" / "tiny.py"


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of a section."""
    section = next(part for part in GUIDE.split("\n## ") if part.startswith(heading))
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def registered(line: str) -> tuple[str, str]:
    """The name and the object of a line such as `    "successor": Successor,`."""
    return re.fullmatch(r' {4}"(\w+)": (\w+),\n', line).groups()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return toy.word_backbone(tmp_path_factory.mktemp("extending") / "backbone")


def options(backbone: Path, output: Path) -> list[str]:
    return [
        f"--config.backbone.path={backbone}", "--config.rollout.max_steps=4",
        "--config.rollout.gen_len=8", "--output", str(output),
    ]  # fmt: skip


def test_a_task(backbone, tmp_path, monkeypatch):
    code, line = blocks("A task", "python")
    name, class_name = registered(line)
    file = tmp_path / "successor.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location("successor", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task = getattr(module, class_name)
    monkeypatch.setitem(TASKS, name, task)

    source = TINY.read_text()
    section = re.search(
        r"    config\.task\.name = .*?config\.task\.train_part = .*?\n", source, re.DOTALL
    )[0]
    config = tmp_path / "config.py"
    config.write_text(
        source.replace(
            section, f'    config.task.name = "{name}"\n    config.task.max_number = 60\n'
        )
    )
    output = tmp_path / "evaluation.json"
    argv = ["--config", str(config), "--policy", "confidence", *options(backbone, output)]
    assert run_command(evaluate.main, argv) == 0
    result = json.loads(output.read_text())
    assert (result["task"], result["policy"]) == (name, "confidence")
    assert result["grader_version"] == task.grader_version and result["forward_passes"] == 4
    answers = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    assert len(answers) == result["samples"] > 0

    own = task(type("Options", (), {"max_number": 60}), None)
    train, test = own.problems("train"), own.problems("test")
    assert [a["id"] for a in answers] == [problem.id for problem in test]
    assert len({p.prompt for p in train} | {p.prompt for p in test}) == len(train) + len(test) == 61
    texts = [own.reference_text(test[0]), "7000 ;", "; ;"]
    for mode, rewards in (("strict", [1.0, 0.0, 0.0]), ("shaped", [1.0, 0.1, 0.0])):
        assert [g.reward for g in own.grade(texts, test[:1] * 3, mode)] == rewards


def copied(tmp_path: Path) -> Path:
    """A copy of the package and its configurations."""
    for folder in ("reoac_jax", "configs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder, ignore=ignore)
    return tmp_path / "copy"


def run_in(copy: Path, *arguments: str) -> str:
    """What a command of the package's copy prints: members are found on import."""
    environment = os.environ | {"PYTHONPATH": str(copy), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=copy, check=True, text=True, env=environment, stdout=subprocess.PIPE
    ).stdout


def test_an_objective(backbone, tmp_path):
    """Trained by, in a copy of the package; nothing but its file is new."""
    copy = copied(tmp_path)
    (code,) = blocks("An objective", "python")
    (copy / "reoac_jax/learning/objectives/advantage_weighted.py").write_text(code)
    small = ["episodes_per_iter=4", "episodes_per_prompt=2", "iterations=1", "actor_steps=2"]
    run_in(
        copy, "reoac_jax.train", "--config", "configs/tiny.py",
        *options(backbone, tmp_path / "none")[:-2], f"--config.output_dir={tmp_path / 'runs'}",
        *(f"--config.train.{size}" for size in small), "--config.train.critic_steps=0",
        "--config.objective.actor=advantage_weighted",
        "--config.objective.advantage_weighted.temperature=0.5",
    )  # fmt: skip
    (run,) = (tmp_path / "runs" / "tiny").iterdir()
    written = json.loads((run / "config.json").read_text())["objective"]
    assert written["actor"] == "advantage_weighted"
    assert written["advantage_weighted"] == {"temperature": 0.5}
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    # Nothing is earned: every weight is 1 but for the costs, and the policy is near uniform.
    assert 0.5 * np.log(5) < json.loads(line)["actor_loss"] < 4 * np.log(5)


def test_a_sampler_with_a_parameter_is_one_file(backbone, tmp_path):
    copy = copied(tmp_path)
    (code,) = blocks("A sampler", "python")
    (copy / "reoac_jax" / "samplers" / "right_to_left.py").write_text(code)
    assert "  right_to_left: From the last mask on" in run_in(
        copy, "reoac_jax.evaluate", "--policy", "help"
    )
    output = tmp_path / "evaluation.json"
    own = ["--config", "configs/tiny.py", "--limit", "4", *options(backbone, output)]
    for threshold, passes in ((0, 2), (1, 8)):  # a pass for each block of 4, or each of 8 tokens
        policy = f"right_to_left:block_len=4,threshold={threshold}"
        run_in(copy, "reoac_jax.evaluate", "--policy", policy, *own)
        result = json.loads(output.read_text())
        assert result["policy"] == f"right_to_left:block_len=4,threshold={float(threshold)}"
        assert result["forward_passes"] == result["forward_passes_max"] == passes


def test_an_operator_is_one_file(backbone, tmp_path):
    copy = copied(tmp_path)
    (code,) = blocks("An operator", "python")
    (changes,) = blocks("An operator", "text")
    (copy / "reoac_jax" / "policy" / "operators" / "sparse.py").write_text(code)
    output = tmp_path / "evaluation.json"
    argv = ["--config", "configs/tiny.py", "--policy", "O_SPARSE", "--limit", "4"]
    argv += [*changes.split(), *options(backbone, output)]
    run_in(copy, "reoac_jax.evaluate", *argv)
    result = json.loads(output.read_text())
    assert result["config"]["operators"]["O_SPARSE"]["stride"] == 4
    # Two of eight positions are multiples of 4: one step of two tokens takes them, the fallback the
    # rest.
    assert result["operator_shares"] == {"O_SCOPE": 0.75, "O_SPARSE": 0.25}
