"""docs/extending.md, done as it says, each in a copy of the package: one new file, nothing else."""

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

pytestmark = [pytest.mark.slow, pytest.mark.process]

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of a section."""
    section = next(part for part in GUIDE.split("\n## ") if part.startswith(heading))
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return toy.word_backbone(tmp_path_factory.mktemp("extending") / "backbone")


def options(backbone: Path, output: Path) -> list[str]:
    return [
        f"--config.backbone.path={backbone}", "--config.rollout.max_steps=4",
        "--config.rollout.gen_len=8", "--output", str(output),
    ]  # fmt: skip


def copied(tmp_path: Path) -> Path:
    """A copy of the package and its configurations."""
    for folder in ("reoac_jax", "configs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder, ignore=ignore)
    return tmp_path / "copy"


def run_in(copy: Path, command: str | Path, *arguments: str) -> str:
    """What a module or a file prints, run with the package's copy: members are found on import."""
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax_tests"),
    }
    started = [command] if isinstance(command, Path) else ["-m", command]
    return subprocess.run(
        [sys.executable, *started, *arguments],
        cwd=copy,
        check=True,
        text=True,
        env=environment,
        stdout=subprocess.PIPE,
    ).stdout


# What `grade` and `problems` of the guide's task have to hold, in a process of the copy.
_CHECK_TASK = """
import json
from reoac_jax.tasks import TASKS
task = TASKS["successor"](type("Options", (), {"max_number": 60}), None)
splits = {split: task.problems(split) for split in ("train", "dev", "test")}
test = splits["test"]
texts = [task.reference_text(test[0]), "7000 ;", "; ;"]
rewards = {m: [g.reward for g in task.grade(texts, test[:1] * 3, m)] for m in ("strict", "shaped")}
prompts = [problem.prompt for problems in splits.values() for problem in problems]
print(json.dumps([[problem.id for problem in test], prompts, rewards]))
"""


def test_a_task_is_one_file(backbone, tmp_path):
    copy = copied(tmp_path)
    (code,) = blocks("A task", "python")
    (copy / "reoac_jax" / "tasks" / "families" / "successor.py").write_text(code)
    config = copy / "successor_config.py"
    config.write_text(
        "from reoac_jax.config import base\n\n\ndef get_config():\n    config = base()\n"
        '    config.task.name = "successor"\n    config.rollout.max_prompt_len = 8\n'
        "    return config\n"
    )
    output = tmp_path / "evaluation.json"
    argv = ["--config", str(config), "--policy", "confidence", *options(backbone, output)]
    run_in(copy, "reoac_jax.evaluate", *argv)
    result = json.loads(output.read_text())
    assert (result["task"], result["grader_version"]) == ("successor", "successor-1")
    assert result["config"]["task"] == {"name": "successor", "max_number": 60}
    answers = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    assert len(answers) == result["samples"] > 0

    file = tmp_path / "check.py"
    file.write_text(_CHECK_TASK)
    ids, prompts, rewards = json.loads(run_in(copy, file))
    assert [answer["id"] for answer in answers] == ids
    assert len(set(prompts)) == len(prompts) == 61
    assert rewards == {"strict": [1.0, 0.0, 0.0], "shaped": [1.0, 0.1, 0.0]}


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
