"""A run's folder: its own, and written by one process at a time."""

import errno
import fcntl
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reoac_jax.config import load_config
from reoac_jax.evaluate import parse
from reoac_jax.runs import folder as run_folder
from reoac_jax.runs.folder import (
    RunLock,
    create_run,
    evaluate_command,
    newest_checkpoints,
    open_run,
    stopped_from_outside,
)
from reoac_jax.system.errors import InputError, RunError

ROOT = Path(__file__).resolve().parents[2]
HOLDER = (
    "import sys, time; from pathlib import Path; from reoac_jax.runs.folder import RunLock\n"
    "lock = RunLock(); lock.take(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
)


@pytest.fixture
def config(tmp_path):
    return load_config(ROOT / "configs/tiny.py", [f"--config.output_dir={tmp_path / 'runs'}"])


def test_runs_of_the_same_second_get_folders_of_their_own(config, monkeypatch):
    class Clock(run_folder.datetime.datetime):
        @classmethod
        def now(cls):
            return cls(2025, 1, 2, 3, 4, 5)

    monkeypatch.setattr(run_folder.datetime, "datetime", Clock)
    locks = [RunLock() for _ in range(3)]
    runs = [create_run(config, lock) for lock in locks]
    assert [run.name for run in runs] == [
        "20250102-030405", "20250102-030405-2", "20250102-030405-3"
    ]  # fmt: skip
    for lock in locks:
        lock.__exit__()


@pytest.mark.process
def test_a_folder_in_use_is_refused_until_its_process_is_dead(config):
    with RunLock() as lock:
        run = create_run(config, lock)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with RunLock() as lock, pytest.raises(InputError, match=f"use by process {holder.pid} on"):
            open_run(run, lock)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with RunLock() as lock:
        open_run(run, lock)
        with RunLock() as second, pytest.raises(InputError, match="in use"):
            open_run(run, second)
    with RunLock() as lock:
        open_run(run, lock)


def test_a_file_system_without_locks_gets_a_warning(config, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with RunLock() as lock:
        create_run(config, lock)
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(config, monkeypatch, tmp_path):
    with RunLock() as lock:
        run = create_run(config, lock)

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(run_folder.os, "open", read_only)
    with RunLock() as lock, pytest.raises(InputError, match=r"cannot write to .*Read-only"):
        open_run(run, lock)
    with RunLock() as lock, pytest.raises(InputError, match=r"cannot make .*Read-only"):
        create_run(config, lock)


def test_open_run_removes_what_a_killed_process_left(config):
    with RunLock() as lock:
        run = create_run(config, lock)
    (run / ".metrics.jsonl.x1.tmp").write_text("{")
    (run / ".backbone.x2.tmp").mkdir()
    with RunLock() as lock:
        open_run(run, lock)
    assert sorted(path.name for path in run.iterdir()) == [".lock", "config.json"]


@pytest.mark.parametrize("error", [FloatingPointError("a is nan"), PermissionError(13, "denied")])
def test_what_stops_a_run_is_told_in_one_line(error, tmp_path):
    for saved, words in (("3", "is intact"), ("3.orbax-checkpoint-tmp", "saved a checkpoint in")):
        run = tmp_path / saved
        (run / "checkpoints" / saved).mkdir(parents=True)
        with pytest.raises(RunError, match=rf"(a is nan|denied).*{words}"):
            with stopped_from_outside(run):
                raise error
    with pytest.raises(RunError, match="before it had saved a checkpoint"):
        with stopped_from_outside(tmp_path / "none"):
            raise error
    with pytest.raises(ValueError, match="a defect"), stopped_from_outside(tmp_path):
        raise ValueError("a defect")


def test_the_newest_run_is_the_newest_by_its_name(config, tmp_path):
    parent = tmp_path / "runs" / config.exp_name
    names = ("20250102-030405-10", "20250102-030405-9", "20250102-030405", "20241231-235959", "z")
    for name in names:  # the oldest is changed last
        (parent / name / "checkpoints" / "0" / "actor").mkdir(parents=True)
    (parent / "20260101-000000" / "checkpoints" / "0" / "backbone").mkdir(parents=True)  # no actor
    assert newest_checkpoints(config) == parent / names[0] / "checkpoints"


@pytest.mark.parametrize("order", [(), ("O_SCOPE", "O_NUM")])
def test_a_run_in_a_fixed_order_is_evaluated_in_it(order):
    words = shlex.split(evaluate_command(Path("a run"), order))
    options, _ = parse(words[words.index("reoac_jax.evaluate") + 1 :])
    assert options.policy == (",".join(order) or "actor")
    assert options.config == "a run/config.json" and options.checkpoint == "a run/checkpoints"
