"""The sinks beside metrics.jsonl: what TensorBoard's files hold, what W&B is told, failures."""

import json
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from reoac_jax.config import load_config
from reoac_jax.runs import sinks as metric_sinks
from reoac_jax.runs.sinks import MetricSinks, flat_numbers

VALUES = {"loss": np.float32(0.5), "shares": {"O_NUM": 0.25}, "note": "text", "none": None}


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "tiny" / "20260101-000000"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def config_with(configs):
    def load(*names):
        overrides = [f"--config.logging.{name}=True" for name in names]
        return load_config(configs / "tiny.py", overrides)

    return load


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def events(path: Path) -> list[Event]:
    """TFRecord by hand: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack_from("<Q", data)
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return found


def scalars(found: list[Event]) -> list[tuple[int, str, float]]:
    return [(e.step, v.tag, v.simple_value) for e in found for v in e.summary.value]


def test_metrics_file_alone_by_default(run, config_with):
    with MetricSinks(run, config_with()) as sinks:
        sinks.append(0, VALUES)
    assert [path.name for path in run.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_files_are_complete_after_each_append_and_on_resume(run, config_with):
    with MetricSinks(run, config_with("tensorboard")) as sinks:
        sinks.append(0, VALUES)
        (first,) = (run / "tensorboard").iterdir()
        expected = [(0, "loss", 0.5), (0, "shares/O_NUM", 0.25)]
        assert scalars(events(first)) == expected  # on the disk before the next line
        sinks.append(1, {"loss": 2.0})
        sinks.append(2, {"loss": 3.0})
    # Within the same second, as a test or a script may do it.
    with MetricSinks(run, config_with("tensorboard"), keep_through=1) as sinks:
        sinks.append(2, {"loss": 4.0})
    (second,) = set((run / "tensorboard").iterdir()) - {first}
    assert scalars(events(first)) == [*expected, (1, "loss", 2.0), (2, "loss", 3.0)]
    start = events(second)[1]
    assert start.step == 2 and start.session_log.status == SessionLog.START  # voids 2 and later
    assert scalars(events(second)) == [(2, "loss", 4.0)]
    assert [line["iteration"] for line in lines(run)] == [0, 1, 2]


class FakeWandb(types.ModuleType):
    """Notes what it is told; `fail` names the call that raises."""

    def __init__(self, fail: str = ""):
        super().__init__("wandb")
        self.fail, self.calls = fail, []

    def _note(self, call: str, /, *arguments, **named):
        if self.fail == call:
            raise RuntimeError("no\nnetwork")
        self.calls.append((call, arguments, named))
        return self

    def init(self, **named):
        return self._note("init", **named)

    def Settings(self, **named):  # noqa: N802
        return named

    def log(self, values, step):
        self._note("log", values, step)

    def finish(self):
        self._note("finish")


def test_wandb_goes_on_under_the_same_id(run, config_with, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for through in (None, 0):
        with MetricSinks(run, config_with("wandb"), through) as sinks:
            sinks.append(0 if through is None else 1, VALUES)
    names = [name for name, _, _ in wandb.calls]
    assert names == ["init", "log", "finish"] * 2
    first, second = (named for name, _, named in wandb.calls if name == "init")
    assert first["id"] == second["id"] and first["resume"] == "allow"
    assert first["config"]["rollout"]["max_steps"] == 7
    assert wandb.calls[1][1] == ({"loss": 0.5, "shares/O_NUM": 0.25}, 0)


@pytest.mark.parametrize("call", ["import", "init", "log", "finish"])
def test_a_failing_sink_is_one_warning_and_the_others_go_on(
    call, run, config_with, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "wandb", None if call == "import" else FakeWandb(call))
    with MetricSinks(run, config_with("tensorboard", "wandb")) as sinks:
        for iteration in range(3):
            sinks.append(iteration, VALUES)
    error = capsys.readouterr().err
    assert error.startswith("warning: logging.wandb is off") and error.count("\n") == 1
    assert ("reoac-jax[wandb]" in error) == (call == "import")
    assert len(lines(run)) == 3
    (file,) = (run / "tensorboard").iterdir()
    assert len(scalars(events(file))) == 6


def test_a_full_disk_under_tensorboard_does_not_hold_the_run(run, config_with, monkeypatch, capsys):
    with MetricSinks(run, config_with("tensorboard")) as sinks:

        def full(event):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(sinks._sinks["tensorboard"]._writer, "write", full)
        for iteration in range(50):
            sinks.append(iteration, VALUES)
    error = capsys.readouterr().err
    assert "No space left" in error and error.count("\n") == 1
    assert len(lines(run)) == 50


def test_a_folder_that_cannot_be_made_is_a_warning(run, config_with, capsys):
    (run / metric_sinks.TENSORBOARD).write_text("in the way")
    with MetricSinks(run, config_with("tensorboard")) as sinks:
        sinks.append(0, VALUES)
    assert "logging.tensorboard is off" in capsys.readouterr().err
    assert len(lines(run)) == 1


def test_non_finite_values_stop_the_run_and_reach_no_sink(run, config_with):
    with MetricSinks(run, config_with("tensorboard")) as sinks:
        with pytest.raises(FloatingPointError):
            sinks.append(0, {"loss": float("nan")})
    (file,) = (run / "tensorboard").iterdir()
    assert not scalars(events(file))


def test_flat_numbers():
    values = {"a": {"b": {"c": 1}}, "d": np.int64(2), "e": [1, 2], "f": True}
    assert flat_numbers(values) == {"a/b/c": 1.0, "d": 2.0, "f": 1.0}
