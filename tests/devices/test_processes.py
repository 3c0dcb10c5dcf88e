"""Several processes as one run: 2 processes of 2 CPU devices each, on this machine."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from support.small_run import TINY, metrics, samples, share_programs

from reoac_jax import train
from reoac_jax.config import load_config
from reoac_jax.devices import processes, sharding
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.parts import load_parts
from reoac_jax.learning.replay import Replay
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.learning.state import restore_training
from reoac_jax.runs.checkpoints import read_item
from reoac_jax.system.errors import run_command

ROOT = Path(__file__).resolve().parents[2]
SRUN = """#!/usr/bin/env bash
# Two tasks on one node, as srun would start them.
shift # --kill-on-bad-exit=1
status=0 tasks=()
for index in 0 1; do
    SLURM_PROCID=$index SLURM_LOCALID=$index SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1 \\
        SLURM_STEP_NODELIST=localhost "$@" >"$LOGS/$index.out" 2>"$LOGS/$index.err" &
    tasks+=($!)
done
for task in "${tasks[@]}"; do wait "$task" || status=$?; done
exit "$status"
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def arguments(options):  # noqa: F811
    """Of a run of seconds that trains all weights."""
    kept = [o for o in options if "output_dir" not in o]
    return [*kept, "--config.train.episodes_per_iter=10", "--config.train.iterations=2",
            "--config.checkpoint.every=1"]  # fmt: skip


@pytest.fixture(scope="module")
def built():
    """Parts and programs of four devices."""
    return {}


@pytest.fixture
def one_process(checkout, arguments, built, monkeypatch):
    """The same run in this process, on its four devices; its weights are replicated."""
    share_programs(monkeypatch, built)

    def run(*more):
        output = f"--config.output_dir={checkout / 'one'}"
        argv = ["--config", TINY, *arguments, "--config.backbone.finetune_mode=full", output, *more]
        assert run_command(train.main, argv) == 0
        (folder,) = (checkout / "one" / "tiny").iterdir()
        return folder

    return run


@pytest.fixture
def checkout(tmp_path):
    """A folder with the project's scripts, this Python as its environment, and a false SLURM."""
    executable(tmp_path / ".venv/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    executable(tmp_path / "bin/srun", SRUN)
    executable(tmp_path / "bin/scontrol", '#!/bin/sh\necho "$@" >>"$LOGS/scontrol"\n')
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "logs").mkdir()
    return tmp_path


def environment(checkout, **more):
    cache = jax.config.jax_compilation_cache_dir
    return os.environ | {
        "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LOGS": str(checkout / "logs"),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {os.environ.get('XLA_FLAGS', '')}",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.03",
        **more,
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def assert_same_metrics(got, want):
    assert [line["iteration"] for line in got] == [line["iteration"] for line in want]
    for mine, theirs in zip(got, want, strict=True):
        assert mine.keys() == theirs.keys()
        assert mine.pop("operators_by_step") == theirs.pop("operators_by_step")
        for name, value in theirs.items():
            assert mine[name] == pytest.approx(value, abs=1e-5, rel=1e-5), name


@pytest.mark.slow
@pytest.mark.process
def test_two_slurm_tasks_are_one_run(checkout, arguments, one_process):
    job = next(job for job in range(4096) if port_is_free(61440 + job))  # where jax puts it
    batch = subprocess.run(
        ["bash", "scripts/slurm_train.sbatch", TINY, "full", *arguments,
         "--config.sharding.fsdp=True"],
        cwd=checkout, check=False, timeout=600, capture_output=True, text=True,
        env=environment(checkout, SLURM_SUBMIT_DIR=str(checkout), SLURM_JOB_ID=str(job)),
    )  # fmt: skip
    errors = "".join(path.read_text() for path in sorted((checkout / "logs").glob("*.err")))
    assert batch.returncode == 0, errors
    assert not (checkout / "logs" / "scontrol").exists()
    (run,) = (checkout / "runs" / f"tiny-{job}").iterdir()
    assert "done: " in (checkout / "logs" / "0.out").read_text()
    # Gloo, which connects the processes, speaks in both; the run in the first alone.
    second = (checkout / "logs" / "1.out").read_text() + (checkout / "logs" / "1.err").read_text()
    assert not re.search("training|problems|run folder|done", second)

    whole = one_process()
    assert_same_metrics(metrics(run), metrics(whole))
    assert metrics(run)[0]["reward"] == metrics(whole)[0]["reward"]
    assert samples(run).keys() == samples(whole).keys()
    mine, theirs = (json.loads(samples(r)["000000_000.json"]) for r in (run, whole))
    assert mine["text"] == theirs["text"] and len(mine["steps"]) == len(theirs["steps"])

    # Its checkpoint, of weights in four parts, into other numbers of devices.
    config = load_config(run / "config.json")
    stored = read_item(run / "checkpoints" / "1", "backbone")
    replayed = read_item(whole / "checkpoints" / "1", "replay")
    for count in (1, 2, 4):
        state, replay, start = restored(config, run / "checkpoints" / "1", count)
        assert start == 2 and len(state.backbone["vocab_embed"]["embedding"].devices()) == count
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.backbone), stored)
        for name in ("tokens", "chosen", "returns_to_go"):
            np.testing.assert_allclose(replay.state()[name], replayed[name], atol=1e-6)


def port_is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) != 0


def restored(config, checkpoint, count):
    parts = load_parts(config)
    learner = Learner(
        parts.model, parts.heads, parts.rollout_settings(config),
        LearnerSettings.from_config(config), sharding.make_mesh(jax.devices()[:count]),
    )  # fmt: skip
    state = learner.place(learner.init(jax.random.key(9), parts.base))
    replay = Replay(config.train.buffer_size)
    state, start = restore_training(checkpoint, parts, learner, state, replay)
    return state, replay, start


@pytest.mark.slow
@pytest.mark.process
def test_a_death_ends_the_others_and_the_run_resumes(checkout, arguments, one_process):
    port = free_port()
    tasks = []
    for index in range(2):
        task = subprocess.Popen(
            ["bash", "scripts/train_reoac.sh", TINY, "full", *arguments,
             "--config.train.iterations=500"],
            cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=environment(
                checkout, REOAC_COORDINATOR=f"localhost:{port}", REOAC_PROCESSES="2",
                REOAC_INDEX=str(index),
            ),
        )  # fmt: skip
        tasks.append(task)
    try:
        runs = checkout / "runs" / "tiny"
        deadline = time.monotonic() + 600
        while not any(runs.glob("*/checkpoints/0")):
            assert all(task.poll() is None for task in tasks), tasks[0].communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        tasks[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        _, error = tasks[0].communicate(timeout=60)
        assert time.monotonic() - killed < 60
    finally:
        for task in tasks:
            task.kill()
    assert tasks[0].returncode not in (0, 2)
    # Ours, or jax's own where its watch was quicker.
    assert "another one died" in error or "another task died" in error

    (run,) = runs.iterdir()
    last = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    more = [f"--config.train.iterations={last + 2}", "--config.distributed.mode=off"]
    whole = one_process(more[0])
    assert run_command(train.main, ["--resume", str(run), *more]) == 0
    assert_same_metrics(metrics(run), metrics(whole))


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [(0, 0, False), (2, 0, False), (143, 9, True), (134, 0, True), (1, 3, False)],
)
def test_a_stopped_job_goes_back_into_the_queue(checkout, status, restarts, requeued):
    executable(checkout / "bin/srun", f'#!/bin/sh\necho "$@" >"$LOGS/srun"\nexit {status}\n')
    before = checkout / "runs" / "c-77" / "20260101-000000"
    before.mkdir(parents=True)
    (before / "config.json").touch()
    result = subprocess.run(
        ["bash", str(checkout / "scripts/slurm_train.sbatch"), "configs/c.py", "lora"],
        cwd="/", check=False, capture_output=True, text=True,
        env=environment(checkout, SLURM_SUBMIT_DIR=str(checkout), SLURM_JOB_ID="77",
                        SLURM_RESTART_COUNT=str(restarts)),
    )  # fmt: skip
    assert result.returncode == status, result.stderr
    log = checkout / "logs" / "scontrol"
    assert (log.read_text() if log.exists() else "") == ("requeue 77\n" if requeued else "")
    started = (checkout / "logs" / "srun").read_text()
    assert "--resume runs/c-77/20260101-000000 --config.distributed.mode=auto" in started


def test_shares_and_exchange(monkeypatch):
    """Every item has one owner; the exchange puts unequal shares back in order."""
    for count, total in ((4, 10), (3, 3), (1, 5)):
        shares = []
        for index in range(count):
            monkeypatch.setattr(jax, "process_count", lambda count=count: count)
            monkeypatch.setattr(jax, "process_index", lambda index=index: index)
            shares.append(processes.own_share(total))
        assert [i for s in shares for i in range(total)[s]] == list(range(total))
        sizes = [s.stop - s.start for s in shares]
        assert max(sizes) - min(sizes) <= 1
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    with pytest.raises(ValueError, match="2 items for 3 processes"):
        processes.own_share(2)

    rows = np.arange(20).reshape(10, 2)
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    parts = []
    for index in range(4):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(rows[processes.own_share(10)])
    padded = np.stack([np.concatenate([p, -np.ones((3 - len(p), 2))]) for p in parts])
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", lambda x: padded)
    np.testing.assert_array_equal(processes.all_gather(parts[0], 10), rows)
