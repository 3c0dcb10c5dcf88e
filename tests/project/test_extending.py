"""docs/extending.md, done as it says, in a copy of the package: new files or a folder alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
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
    """A copy of the package and its configurations, with what Python has compiled of them."""
    for folder in ("reoac_jax", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder)
    return tmp_path / "copy"


# Each command as if it had been started by itself; a line of its own ends what it prints.
_RUN_ALL = """
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        if command[0].endswith(".py"):
            runpy.run_path(command[0], run_name="__main__")
        else:
            runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as left:
        assert not left.code, (command, left.code)
    print(chr(30), flush=True)
"""


def run_in(copy: Path, *commands: Sequence[str | Path]) -> list[str]:
    """What modules or files with their arguments print, one after the other in one process.

    It has the package's copy: members are found on import.
    """
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax_tests"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.03",
    }
    asked = json.dumps([[str(word) for word in command] for command in commands])
    printed = subprocess.run(
        [sys.executable, "-c", _RUN_ALL, asked],
        cwd=copy,
        check=True,
        text=True,
        env=environment,
        stdout=subprocess.PIPE,
    ).stdout
    return printed.split("\x1e\n")[:-1]


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


# A section of the guide, and the file of the package that its code is.
MEMBERS = {
    "A task": "tasks/families/successor.py",
    "An objective": "learning/objectives/advantage_weighted.py",
    "A sampler": "samplers/right_to_left.py",
    "An operator": "policy/operators/sparse.py",
}
TASK_CONFIG = """
from reoac_jax.config import base


def get_config():
    config = base()
    config.task.name = "successor"
    config.rollout.max_prompt_len = 8
    return config
"""
THRESHOLDS = (0, 1)


@pytest.fixture(scope="module")
def extended(backbone, tmp_path_factory):
    """The folder of what the members' commands write, and what each of them printed.

    In one process, in a copy of the package with one file more for each member.
    """
    folder = tmp_path_factory.mktemp("extended")
    copy = copied(folder)
    for heading, file in MEMBERS.items():
        (code,) = blocks(heading, "python")
        (copy / "reoac_jax" / file).write_text(code)
    (copy / "task_config.py").write_text(TASK_CONFIG)
    (folder / "check.py").write_text(_CHECK_TASK)

    def evaluate(name, policy, *more):
        output = options(backbone, folder / f"{name}.json")
        return ["reoac_jax.evaluate", "--policy", policy, *more, *output]

    small = ["episodes_per_iter=4", "episodes_per_prompt=2", "iterations=1", "actor_steps=2"]
    tiny, few = ["--config", "configs/tiny.py"], ["--limit", "4"]
    (operator,) = blocks("An operator", "text")
    commands = {
        "task": evaluate("task", "confidence", "--config", "task_config.py"),
        "checked": [folder / "check.py"],
        "objective": [
            "reoac_jax.train", *tiny,
            *options(backbone, folder / "none")[:-2], f"--config.output_dir={folder / 'runs'}",
            *(f"--config.train.{size}" for size in small), "--config.train.critic_steps=0",
            "--config.objective.actor=advantage_weighted",
            "--config.objective.advantage_weighted.temperature=0.5",
        ],
        "help": ["reoac_jax.evaluate", "--policy", "help"],
        "operator": evaluate("operator", "O_SPARSE", *tiny, *few, *operator.split()),
    }  # fmt: skip
    for threshold in THRESHOLDS:
        policy = f"right_to_left:block_len=4,threshold={threshold}"
        commands[f"sampler {threshold}"] = evaluate(f"sampler {threshold}", policy, *tiny, *few)
    return folder, dict(zip(commands, run_in(copy, *commands.values()), strict=True))


def test_a_task_is_one_file(extended):
    folder, printed = extended
    result = json.loads((folder / "task.json").read_text())
    assert (result["task"], result["grader_version"]) == ("successor", "successor-1")
    assert result["config"]["task"] == {
        "name": "successor", "max_number": 60, "prompt": "plain", "system_prompt": "none",
        "worked_examples": 0,
    }  # fmt: skip
    answers = [json.loads(line) for line in (folder / "task.jsonl").read_text().splitlines()]
    assert len(answers) == result["samples"] > 0

    ids, prompts, rewards = json.loads(printed["checked"])
    assert [answer["id"] for answer in answers] == ids
    assert len(set(prompts)) == len(prompts) == 61
    assert rewards == {"strict": [1.0, 0.0, 0.0], "shaped": [1.0, 0.1, 0.0]}


def test_an_objective_is_one_file(extended):
    folder, _ = extended
    (run,) = (folder / "runs" / "tiny").iterdir()
    written = json.loads((run / "config.json").read_text())["objective"]
    assert written["actor"] == "advantage_weighted"
    assert written["advantage_weighted"] == {"temperature": 0.5}
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    # Nothing is earned: every weight is 1 but for the costs, and the policy is near uniform.
    assert 0.5 * np.log(5) < json.loads(line)["actor_loss"] < 4 * np.log(5)


def test_a_sampler_with_a_parameter_is_one_file(extended):
    folder, printed = extended
    assert "  right_to_left: From the last mask on" in printed["help"]
    # A pass for each block of 4, or each of 8 tokens.
    for threshold, passes in zip(THRESHOLDS, (2, 8), strict=True):
        result = json.loads((folder / f"sampler {threshold}.json").read_text())
        assert result["policy"] == f"right_to_left:block_len=4,threshold={float(threshold)}"
        assert result["forward_passes"] == result["forward_passes_max"] == passes


def test_an_operator_is_one_file(extended):
    folder, _ = extended
    result = json.loads((folder / "operator.json").read_text())
    assert result["config"]["operators"]["O_SPARSE"]["stride"] == 4
    # Two of eight positions are multiples of 4: one step of two tokens takes them, the fallback the
    # rest.
    assert result["operator_shares"] == {"O_SCOPE": 0.75, "O_SPARSE": 0.25}


def random_encoder(folder: Path, config: dict) -> dict[str, np.ndarray]:
    """A random checkpoint in the published layout of the guide's architecture, and its tensors."""
    rng = np.random.default_rng(0)
    vocabulary, width = config["vocab_size"], config["hidden_size"]
    linears = {
        "attention.qkv": (3 * width, width), "attention.out": (width, width),
        "mlp.0": (4 * width, width), "mlp.2": (width, 4 * width),
    }  # fmt: skip
    layers = {"norm": (width,), "head": (vocabulary, width)}
    for i in range(config["num_layers"]):
        layers |= {f"layers.{i}.{name}": shape for name, shape in linears.items()}
        layers |= {f"layers.{i}.norm{n}": (width,) for n in (1, 2)}
    shapes = {"embed.weight": (vocabulary, width)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    tensors = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    folder.mkdir()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(ROOT / "data" / "tiny_mdlm" / name, folder / name)
    return tensors


# The network again, in plain NumPy, from the published tensors under their published names.
_CHECK_LOGITS = """
import json, sys
import numpy as np
from safetensors.numpy import load_file
from reoac_jax.backbone import load_backbone

source, folder = sys.argv[1:]
p, width, heads = load_file(source + "/model.safetensors"), 16, 2
tokens = np.array([[3, 900, 1199, 7, 1199]])
model, params = load_backbone(folder)
ours = model.apply({"params": params}, tokens, np.array([5]))

def linear(x, name):
    return x @ p[name + ".weight"].T + p[name + ".bias"]

def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * p[name + ".weight"] + p[name + ".bias"]

def rotated(x):
    half = x.shape[-1] // 2
    turn = np.exp(1j * np.arange(5)[:, None] * 10000.0 ** (-np.arange(half) / half))
    z = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([z.real, z.imag], -1)

x = p["embed.weight"][tokens[0]].astype(np.float64)
q, k, v = np.split(linear(norm(x, "layers.0.norm1"), "layers.0.attention.qkv"), 3, -1)
q, k, v = (y.reshape(5, heads, -1).transpose(1, 0, 2) for y in (q, k, v))
score = rotated(q) @ rotated(k).transpose(0, 2, 1) / np.sqrt(width // heads)
share = np.exp(score - score.max(-1, keepdims=True))
share /= share.sum(-1, keepdims=True)
x = x + linear((share @ v).transpose(1, 0, 2).reshape(5, width), "layers.0.attention.out")
h = linear(norm(x, "layers.0.norm2"), "layers.0.mlp.0")
h = h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
x = x + linear(h, "layers.0.mlp.2")
theirs = linear(norm(x, "norm"), "head")
print(json.dumps([float(np.abs(ours.logits[0] - theirs).max()), float(np.abs(theirs).max())]))
"""


def test_an_architecture_is_one_folder(tmp_path):
    copy = copied(tmp_path)
    section = next(part for part in GUIDE.split("\n## ") if part.startswith("An architecture"))
    files = re.findall(r"^`(\S+)`:\n\n```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert len(files) == len(blocks("An architecture", "python")) == 4
    (copy / "reoac_jax" / "backbone" / "encoder").mkdir()
    for path, code in files:
        assert Path(path).parent == Path("reoac_jax/backbone/encoder")
        (copy / path).write_text(code)
    (config,) = map(json.loads, blocks("An architecture", "json"))
    source, folder, again = (tmp_path / name for name in ("source", "converted", "again"))
    tensors = random_encoder(source, config)
    (commands,) = blocks("An architecture", "text")
    given = {"PUBLISHED": source, "FOLDER": folder, "AGAIN": again}
    for name, path in given.items():
        commands = re.sub(rf"\b{name}\b", str(path), commands)
    convert, evaluate, export = (line.split()[2:] for line in commands.splitlines())

    file = tmp_path / "check.py"
    file.write_text(_CHECK_LOGITS)
    output = tmp_path / "evaluation.json"
    evaluate += ["--limit", "4", *options(folder, output)]
    report, logits, _, _ = run_in(copy, convert, [file, source, folder], evaluate, export)
    report = json.loads(report)
    assert report["parameters"] == sum(tensor.size for tensor in tensors.values())
    difference, scale = json.loads(logits)
    assert difference < 1e-5 * scale
    result = json.loads(output.read_text())
    assert (result["task"], result["samples"]) == ("countdown", 4)
    assert 1 <= result["forward_passes"] <= 8  # of 8 tokens each reveals one at least

    exported = json.loads((again / "config.json").read_text())
    assert exported == config | {"torch_dtype": "float32"}
    written = safetensors.numpy.load_file(again / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(written[key].tobytes() == tensors[key].tobytes() for key in tensors)
