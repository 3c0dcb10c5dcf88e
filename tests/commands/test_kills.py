"""Training killed at random moments and resumed, again and again, ends as if nothing had been.

The kills are SIGKILL to real processes; some are timed to fall inside a save.
"""

import json
import os
import random
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from support import toy
from support.nursery import Nursery

from reoac_jax.runs.checkpoints import read_item

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 5
KILLS, KILLS_IN_A_SAVE = 2, 1
MOST_KILLS = 14  # the moment inside a save may be missed
ITEMS = ("actor", "critic", "optimizers", "backbone_lora", "replay")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """The tiny configuration, made smaller still; it saves in every iteration."""
    return [
        f"--config.backbone.path={toy.word_backbone(tmp_path_factory.mktemp('backbone') / 'toy')}",
        "--config.backbone.finetune_mode=lora",
        "--config.backbone.dropout=0.1",
        "--config.task.train_size=20",
        "--config.task.test_size=5",
        "--config.rollout.max_steps=2",
        "--config.rollout.gen_len=8",  # the backbone's update has one program
        "--config.rollout.batch_size=4",
        "--config.rollout.sample_strategy=sample",
        "--config.objective.reference.advantage_positive=False",
        f"--config.train.iterations={ITERATIONS}",
        "--config.train.episodes_per_iter=4",
        "--config.train.episodes_per_prompt=2",
        "--config.train.critic_steps=1",
        "--config.train.actor_steps=1",
        "--config.train.head_batch=8",
        "--config.train.backbone_batch=4",
        "--config.train.buffer_size=8",
        "--config.checkpoint.every=1",
        "--config.logging.samples_per_iter=1",
    ]


def lines(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def unfinished_save(run: Path) -> bool:
    """Whether a save has begun and not ended."""
    folder = run / "checkpoints"
    return folder.is_dir() and any("-tmp" in name for name in os.listdir(folder))


class Killer:
    """Starts training, in a new run folder or on the one it has, and kills it."""

    def __init__(self, nursery: Nursery, runs: Path, argv: list[str], longest: float):
        self.run: Path | None = None
        self.kills = self.kills_in_a_save = 0
        self._nursery, self._runs, self._argv, self._longest = nursery, runs, argv, longest
        self._random = random.Random(7)

    def start(self) -> int:
        argv = self._argv if self.run is None else ["--resume", str(self.run)]
        return self._nursery.start("train", argv)

    def kill_somewhere(self) -> None:
        """At a random moment: while it loads, in its first iteration, or just behind that."""
        process, begun = self.start(), self._lines()
        until = time.monotonic() + self._random.uniform(0, self._longest)
        while time.monotonic() < until and self._lines() < begun + 1:
            time.sleep(0.002)
        self._kill(process)

    def kill_in_a_save(self) -> None:
        process, wanted = self.start(), self._lines() + self._random.randint(1, 2)
        while self._lines() < wanted or not unfinished_save(self.run):
            time.sleep(0.0005)
        self._kill(process)

    def _lines(self) -> int:
        if self.run is None:
            self.run = next((c.parent for c in self._runs.glob("tiny/*/config.json")), None)
        return 0 if self.run is None else lines(self.run)

    def _kill(self, process: int) -> None:
        os.kill(process, signal.SIGKILL)
        assert self._nursery.wait() == -signal.SIGKILL
        self._lines()
        self.kills += 1
        self.kills_in_a_save += self.run is not None and unfinished_save(self.run)


def metrics(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timings = ("seconds", "per_second")
    return [{k: v for k, v in row.items() if not k.endswith(timings)} for row in rows]


def samples(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "samples").iterdir()}


@pytest.mark.slow
@pytest.mark.process
def test_killed_and_resumed_training_equals_an_uninterrupted_one(options, tmp_path):
    argv = ["--config", str(ROOT / "configs" / "tiny.py"), *options]
    with Nursery(tmp_path) as nursery:
        began = time.monotonic()
        nursery.start("train", [*argv, f"--config.output_dir={tmp_path / 'whole'}"])
        assert nursery.wait() == 0, nursery.output.read_text()
        longest = 0.35 * (time.monotonic() - began)  # it compiled, what follows does not
        (whole,) = (tmp_path / "whole" / "tiny").iterdir()

        argv = [*argv, f"--config.output_dir={tmp_path / 'killed'}"]
        killer = Killer(nursery, tmp_path / "killed", argv, longest)
        while killer.kills < KILLS or killer.kills_in_a_save < KILLS_IN_A_SAVE:
            assert killer.kills < MOST_KILLS, "the kills meant for a save miss it"
            if killer.run is not None and killer.kills % 2 == 1:
                killer.kill_in_a_save()
            else:
                killer.kill_somewhere()
        killer.start()
        assert nursery.wait() == 0, nursery.output.read_text()

    run = killer.run
    print(f"{killer.kills} kills, {killer.kills_in_a_save} of them inside a save")
    assert metrics(run) == metrics(whole)
    assert [row["iteration"] for row in metrics(run)] == list(range(ITERATIONS))
    assert samples(run) == samples(whole)
    assert len(samples(run)) == ITERATIONS
    last = f"checkpoints/{ITERATIONS - 1}"
    for item in ITEMS:
        resumed, straight = (read_item(folder / last, item) for folder in (run, whole))
        jax.tree.map(np.testing.assert_array_equal, resumed, straight)
    assert not unfinished_save(run)
    assert not list(run.rglob(".*.tmp"))
