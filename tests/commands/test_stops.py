"""What stops a training run: signals, full disks, numbers gone wrong; and what it leaves behind."""

import errno
import gc
import json
import math
import os
import resource
import signal
from pathlib import Path

import pytest
from support import toy
from support.small_run import share_programs

from reoac_jax import sft, train
from reoac_jax.finetuning import state as finetuning_state
from reoac_jax.finetuning.step import Finetuner
from reoac_jax.runs.checkpoints import latest_checkpoint
from reoac_jax.runs.metrics import MetricsLog
from reoac_jax.system.errors import run_command
from reoac_jax.tasks import Grade
from reoac_jax.tasks.families.countdown import Countdown

pytestmark = pytest.mark.slow

TINY = str(Path(__file__).resolve().parents[2] / "configs" / "tiny.py")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return toy.word_backbone(tmp_path_factory.mktemp("backbone") / "toy", scale=0.05)


@pytest.fixture(scope="module")
def built():
    return {}


@pytest.fixture(autouse=True)
def compiled_once(built, monkeypatch):
    """The runs here differ only in what befalls them."""
    share_programs(monkeypatch, built)


@pytest.fixture
def options(backbone, tmp_path):
    """Overrides for four quick iterations of train, which saves in each, or four steps of sft."""
    return [
        "--config", TINY,
        f"--config.backbone.path={backbone}",
        f"--config.output_dir={tmp_path / 'runs'}",
        "--config.backbone.finetune_mode=frozen",
        "--config.task.train_size=20",
        "--config.task.test_size=4",
        "--config.rollout.max_steps=2",
        "--config.rollout.batch_size=1",
        "--config.train.iterations=4",
        "--config.train.episodes_per_iter=8",
        "--config.train.episodes_per_prompt=2",
        "--config.train.critic_steps=1",
        "--config.train.actor_steps=1",
        "--config.train.head_batch=8",
        "--config.train.buffer_size=8",
        "--config.checkpoint.every=1",
        "--config.logging.samples_per_iter=0",
        "--config.sft.mode=lora",
        "--config.sft.steps=4",
        "--config.sft.warmup_steps=1",
        "--config.sft.batch_size=4",
        "--config.sft.log_every=4",
        "--config.sft.eval_every=4",
        "--config.sft.eval_problems=2",
        "--config.sft.eval_samples=1",
        "--config.sft.eval_steps=1",
        "--config.sft.checkpoint_every=1",
    ]  # fmt: skip


def the_run(tmp_path) -> Path:
    (run,) = (tmp_path / "runs" / "tiny").iterdir()
    return run


def iterations(run: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in (run / "metrics.jsonl").open()]


def on_call(monkeypatch, owner, name, number, act):
    """`act()` takes place before call `number` of `owner.name`; what it returns, if not None,
    instead of the call."""
    original, calls = getattr(owner, name), []

    def called(*arguments, **keywords):
        calls.append(1)
        result = act() if len(calls) == number else None
        return original(*arguments, **keywords) if result is None else result

    monkeypatch.setattr(owner, name, called)


def one_error(capsys) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("train")]
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and errors[0] == lines[-1] and "Traceback" not in "".join(lines)
    return errors[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_rollout_abandons_it_and_saves(
    number, options, tmp_path, monkeypatch, capsys
):
    """The run saves every third iteration; the signal comes in the third's first batch."""
    options = [*options, "--config.checkpoint.every=3"]

    def send():
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        on_call(patch, train, "collect", 3, send)
        assert run_command(train.main, options) == 128 + number
    run = the_run(tmp_path)
    assert f"python -m reoac_jax.train --resume {run}" in capsys.readouterr().err
    assert iterations(run) == [0, 1]
    assert latest_checkpoint(run / "checkpoints").name == "1"
    assert run_command(train.main, ["--resume", str(run)]) == 0
    assert iterations(run) == [0, 1, 2, 3]


def test_a_run_killed_before_its_first_save_begins_anew(options, tmp_path, monkeypatch, capsys):
    def killed():
        raise MemoryError("killed")

    for command, owner, name in ((train, train, "update"), (sft, sft, "batch_rows")):
        argv = [*options, f"--config.output_dir={tmp_path / command.__name__}"]
        with monkeypatch.context() as patch:
            on_call(patch, owner, name, 1, killed)
            with pytest.raises(MemoryError):
                run_command(command.main, argv)
        (run,) = (tmp_path / command.__name__ / "tiny").iterdir()
        assert latest_checkpoint(run / "checkpoints") is None
        if command is train:
            (run / "samples").mkdir()
            (run / "samples" / "000000_000.json").write_text("{}")
        assert run_command(command.main, ["--resume", str(run)]) == 0
        assert iterations(run) == ([0, 1, 2, 3] if command is train else [0, 4])
        if command is train:
            assert not list((run / "samples").iterdir())


def test_a_damaged_newest_checkpoint_costs_an_iteration(options, tmp_path, capsys):
    assert run_command(train.main, options) == 0
    run = the_run(tmp_path)
    (run / "checkpoints" / "3" / "checksums.json").write_text("{")
    capsys.readouterr()
    assert run_command(train.main, ["--resume", str(run)]) == 0
    output = capsys.readouterr()
    assert f"warning: checkpoint {run / 'checkpoints' / '3'} is damaged" in output.err
    assert "going on after 3 of 4" in output.out
    assert iterations(run) == [0, 1, 2, 3]
    assert latest_checkpoint(run / "checkpoints").name == "3"
    assert not capsys.readouterr().err


def test_a_run_in_use_refuses_a_second_process(options, tmp_path, monkeypatch, capsys):
    codes = []

    def second():
        codes.append(run_command(train.main, ["--resume", str(the_run(tmp_path))]))

    with monkeypatch.context() as patch:
        on_call(patch, train, "update", 2, second)
        assert run_command(train.main, options) == 0
    assert codes == [2]
    assert "in use by process" in capsys.readouterr().err
    assert iterations(the_run(tmp_path)) == [0, 1, 2, 3]


def test_a_disk_that_fills_up(options, tmp_path, monkeypatch, capsys):
    """No file may grow beyond some kB from the third iteration on: its arrays do not fit, nor, if
    they are still being written, the second's."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))

    with monkeypatch.context() as patch:
        on_call(patch, train, "update", 3, full)
        try:
            assert run_command(train.main, options) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run = the_run(tmp_path)
    assert f"the last checkpoint in {run / 'checkpoints'} is intact" in one_error(capsys)
    assert latest_checkpoint(run / "checkpoints").name in {"0", "1"}
    assert run_command(train.main, ["--resume", str(run)]) == 0
    assert iterations(run) == [0, 1, 2, 3]


@pytest.mark.parametrize("command", [train, sft])
def test_a_disk_that_is_full_before_the_first_save(command, options, tmp_path, monkeypatch, capsys):
    """Nothing is saved, and the line does not say that something was; nothing follows it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))

    owner, name = (train, "update") if command is train else (sft, "batch_rows")
    with monkeypatch.context() as patch:
        on_call(patch, owner, name, 1, full)
        try:
            assert run_command(command.main, options) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run = the_run(tmp_path)
    gc.collect()  # what was left behind would speak now
    message = one_error(capsys)
    assert "File too large" in message and "intact" not in message
    assert f"before it had saved a checkpoint in {run / 'checkpoints'}" in message
    assert latest_checkpoint(run / "checkpoints") is None
    assert run_command(command.main, ["--resume", str(run)]) == 0


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (train, OSError(errno.ENOSPC, "No space left on device")),
        (train, PermissionError(errno.EACCES, "Permission denied")),
        (sft, OSError(errno.EROFS, "Read-only file system")),
    ],
)
def test_metrics_that_cannot_be_written(command, error, options, tmp_path, monkeypatch, capsys):
    def fail():
        raise error

    on_call(monkeypatch, MetricsLog, "append", 2, fail)
    assert run_command(command.main, options) == 1
    message = one_error(capsys)
    assert error.strerror in message and "is intact" in message
    assert iterations(the_run(tmp_path)) == [0]
    saved = {train: "0", sft: "3"}[command]
    assert latest_checkpoint(the_run(tmp_path) / "checkpoints").name == saved


def test_a_result_that_cannot_be_written(options, tmp_path, monkeypatch, capsys):
    def fail():
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        on_call(patch, finetuning_state, "save_backbone", 1, fail)
        assert run_command(sft.main, options) == 1
    assert "No space left on device" in one_error(capsys)
    run = the_run(tmp_path)
    assert not (run / "backbone").exists()
    assert run_command(sft.main, ["--resume", str(run)]) == 0
    assert (run / "backbone").is_dir()


def test_a_reward_that_is_no_number(options, tmp_path, monkeypatch, capsys):
    wrong = [Grade(False, 0.0, None, "1")] * 7 + [Grade(False, math.nan, None, "1")]
    on_call(monkeypatch, Countdown, "grade", 2, lambda: wrong)
    assert run_command(train.main, options) == 1
    assert "in iteration 1 reward is nan" in one_error(capsys)
    assert iterations(the_run(tmp_path)) == [0]


@pytest.mark.parametrize("group", ["critic", "actor"])
def test_parameters_that_are_no_numbers(group, options, tmp_path, monkeypatch, capsys):
    update = train.update
    calls = []

    def broken(*arguments):
        state, measured = update(*arguments)
        calls.append(1)
        if len(calls) == 3:
            heads = state.heads._replace(**{group: toy.nan_like(getattr(state.heads, group))})
            state = state._replace(heads=heads)
            measured[f"{group}_loss"] = math.nan
        return state, measured

    monkeypatch.setattr(train, "update", broken)
    assert run_command(train.main, options) == 1
    message = one_error(capsys)
    assert f"in iteration 2 {group}_loss is nan" in message
    assert f"parameters of {group} are no longer finite" in message
    assert iterations(the_run(tmp_path)) == [0, 1]
    assert latest_checkpoint(the_run(tmp_path) / "checkpoints").name == "1"


def test_fine_tuning_that_goes_wrong_between_two_lines(options, tmp_path, monkeypatch, capsys):
    step, calls = Finetuner.step, []

    def broken(*arguments):
        state = step(*arguments)
        calls.append(1)
        return state._replace(weights=toy.nan_like(state.weights)) if len(calls) == 3 else state

    monkeypatch.setattr(Finetuner, "step", broken)
    assert run_command(sft.main, options) == 1
    assert "in iteration 3 the parameters of backbone_lora are no longer" in one_error(capsys)
    assert iterations(the_run(tmp_path)) == [0]
    assert latest_checkpoint(the_run(tmp_path) / "checkpoints").name == "2"
