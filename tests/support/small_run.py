"""Runs of seconds over a random backbone: fixtures, and what is read from their folders."""

import dataclasses
import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from support import toy

from reoac_jax import sft, train
from reoac_jax.learning import experiment
from reoac_jax.system.errors import run_command

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny.py")
TIMINGS = ("seconds", "per_second")
GEN_LEN = 8  # so short that the backbone's update has one program, whatever was written


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A random backbone over the bundled word tokenizer, in a converted folder."""
    return toy.word_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture
def options(backbone, tmp_path):
    """Overrides for a run of seconds, written below tmp_path."""
    return small_options(backbone, tmp_path)


def small_options(backbone: Path, folder: Path) -> list[str]:
    """Overrides for a run of seconds, written below `folder`."""
    return [
        f"--config.backbone.path={backbone}",
        f"--config.output_dir={folder / 'runs'}",
        "--config.task.train_size=50",
        "--config.task.test_size=12",
        "--config.train.episodes_per_iter=6",
        "--config.train.episodes_per_prompt=2",
        "--config.train.critic_steps=2",
        "--config.train.actor_steps=1",
        "--config.train.iterations=3",
        "--config.train.head_batch=16",
        "--config.train.backbone_batch=4",
        "--config.train.buffer_size=12",
        "--config.checkpoint.every=2",
        "--config.rollout.max_steps=4",
        f"--config.rollout.gen_len={GEN_LEN}",
        "--config.rollout.sample_strategy=sample",
        "--config.rollout.branch_steps=1,",
        "--config.rollout.branch_k=2",
        "--config.features.extra_features=False",
        # An untrained model earns nothing: let failures move the backbone.
        "--config.objective.reference.advantage_positive=False",
    ]


def share_programs(monkeypatch: pytest.MonkeyPatch, built: dict) -> None:
    """From now on runs of one configuration share parts and compiled programs, kept in `built`."""

    def once(name, make, *arguments):
        if name not in built:
            built[name] = make(*arguments)
        return built[name]

    shared = (
        (train, "load_parts"), (experiment, "RolloutProgram"), (experiment, "Learner"),
        (sft, "Finetuner"), (sft.AnswerEvaluation, "create"),
    )  # fmt: skip
    for owner, name in shared:
        monkeypatch.setattr(owner, name, functools.partial(once, name, getattr(owner, name)))
    parts_once = train.load_parts

    def own_base(config):
        # Training all weights donates them; the next run needs its own.
        parts = parts_once(config)
        return dataclasses.replace(parts, base=jax.tree.map(jnp.copy, parts.base))

    monkeypatch.setattr(train, "load_parts", own_base)


def train_run(options, *extra) -> Path:
    assert run_command(train.main, ["--config", TINY, *options, *extra]) == 0
    return newest(options)


def newest(options) -> Path:
    output = next(o for o in options if "output_dir" in o).split("=")[1]
    return max(Path(output, "tiny").iterdir(), key=lambda run: run.stat().st_mtime)


def metrics(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith(TIMINGS)} for line in lines]


def samples(run: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (run / "samples").iterdir()}


def signal_in_update(patch, number, sent):
    """From now on this process gets the signal when `train` begins its `number`-th update."""
    update, calls = train.update, []

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), sent)
        return update(*arguments)

    patch.setattr(train, "update", signalled)
