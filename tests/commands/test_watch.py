"""The terminal view of a run: what it reads while somebody writes, and what it shows."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from support.terminal import Terminal

from reoac_jax import watch
from reoac_jax.config import load_config, to_json
from reoac_jax.runs.metrics import MetricsLog, MetricsTail
from reoac_jax.system.errors import run_command
from reoac_jax.watch import duration, render, sparkline, summary, view_of

ROOT = Path(__file__).resolve().parents[2]
TRAINING = {
    "critic_loss": 0.5, "reward": 0.25, "operator_shares": {"O_NUM": 0.75, "O_FAST": 0.25},
    "rollout_seconds": 20.0, "update_seconds": 10.0,
}  # fmt: skip


@pytest.fixture
def config(configs):
    return to_json(load_config(configs / "tiny.py", ["--config.train.iterations=4"]))


@pytest.fixture
def run(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def write(run: Path, count: int, values=TRAINING) -> None:
    with MetricsLog(run / "metrics.jsonl", keep_through=-1) as log:
        for iteration in range(count):
            log.append(iteration, values | {"reward": iteration / 4})


def printed(view, width=90) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))
    console.print(render(view))
    return console.export_text()


def test_tail_reads_each_line_once_it_is_whole(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == [] and tail.age() is None
    path.write_bytes(b'{"iteration": 0, "a": 1}\n{"itera')
    assert [line["iteration"] for line in tail.read()] == [0]
    with path.open("ab") as file:
        file.write(b'tion": 1}\nnonsense\n[3]\n{"iteration": 2}\n')
    assert [line["iteration"] for line in tail.read()] == [0, 1, 2]
    assert [line["iteration"] for line in tail.read()] == [0, 1, 2]
    assert 0 <= tail.age() < 60


@pytest.mark.parametrize("longer", [False, True])
def test_tail_reads_a_replaced_file_anew(tmp_path, longer):
    """As a resume leaves it: other lines, perhaps more of them."""
    write(tmp_path, 3)
    tail = MetricsTail(tmp_path / "metrics.jsonl")
    assert len(tail.read()) == 3
    with MetricsLog(tmp_path / "metrics.jsonl", keep_through=0) as log:
        for iteration in range(1, 9 if longer else 2):
            log.append(iteration, {"new": 1})
    lines = tail.read()
    assert len(lines) == (9 if longer else 2)
    assert all("new" in line for line in lines[1:])


def test_view_of_a_training_run(run, config):
    write(run, 3)
    lines = MetricsTail(run / "metrics.jsonl").read()
    view = view_of(run, config, lines, quiet=5.0)
    assert (view.done, view.total, view.finished) == (3, 4, False)
    assert view.left == pytest.approx(30.0)
    assert view.series["reward"] == [0.0, 0.25, 0.5]
    assert next(iter(view.series)) == "reward"
    assert view.state == "3 of 4 iterations, about 30 s left; last line 5 s ago"
    text = printed(view)
    for expected in (
        "tiny: training (frozen) on countdown",
        "O_NUM",
        "75.0%",
        "▁▅█",
        "critic_loss",
    ):
        assert expected in text
    assert "operator_shares" not in text
    assert "3 of 4 iterations, about" in text.splitlines()[2]
    assert printed(view, width=40)  # narrow: cut, not broken
    assert view_of(run, config, [*lines, {"iteration": 3}], 1e6).finished


def test_view_of_a_fine_tuning_run(run, config):
    lines = [
        {"iteration": 0, "nelbo": 6.5, "accuracy": 0.0},
        {"iteration": 50, "loss": 2.0, "learning_rate": 1e-3, "seconds_per_step": 0.5},
    ]
    view = view_of(run, config, lines, quiet=200.0)
    assert (view.unit, view.done, view.total) == ("step", 50, config["sft"]["steps"])
    assert view.left == pytest.approx(0.5 * (view.total - 50))
    assert "fine-tuning (full)" in view.headline and "last line 3 min ago" in view.state
    assert list(view.series)[:3] == ["accuracy", "loss", "nelbo"]


def test_no_terminal_gets_one_summary(run, config, capsys):
    assert run_command(watch.main, [str(run)]) == 0
    assert "no metrics yet" in capsys.readouterr().out
    write(run, 4)
    assert run_command(watch.main, [str(run)]) == 0
    out = capsys.readouterr().out
    assert "4 of 4 iterations, finished" in out and "\x1b" not in out
    assert out.splitlines()[3].split() == ["reward", "0.75", "0", "to", "0.75", "▁▃▆█"]
    assert out.count("\n") == len(summary(view_of(run, config, [TRAINING | {"iteration": 0}], 0)))


@pytest.mark.parametrize(
    ("text", "expected"), [("{", "line 1 column 2"), ("{}", "KeyError"), ("[]", "no JSON object")]
)
def test_damaged_configuration(tmp_path, text, expected, capsys):
    (tmp_path / "config.json").write_text(text)
    assert run_command(watch.main, [str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and expected in error


def test_no_run(tmp_path, capsys):
    assert run_command(watch.main, [str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err


@pytest.mark.process
def test_live_view_follows_the_run_and_ends_with_ctrl_c(run):
    write(run, 2)
    with Terminal() as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "reoac_jax.watch", str(run)],
            stdin=terminal.stream, stdout=terminal.stream, stderr=terminal.stream, cwd=ROOT,
            start_new_session=True,
            # A runner in the background may have told its children to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            terminal.wait_for("2 of 4 iterations")
            write(run, 3)
            terminal.wait_for("3 of 4 iterations")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            terminal.wait_for("\x1b[?25h")  # the cursor is back
            assert "Traceback" not in terminal.shown
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([7, 0], "█▁"),
    ],
)
def test_sparkline(values, expected):
    assert sparkline(values) == expected


def test_sparkline_of_many_values_is_their_means():
    assert sparkline([0, 0, 1, 1, 2, 2, 7, 7], width=4) == sparkline([0, 1, 2, 7])
    assert len(sparkline(list(range(1001)))) == 24


def test_duration():
    texts = [duration(seconds) for seconds in (0, 89, 90, 5399, 5400, 36000)]
    assert texts == ["0 s", "89 s", "2 min", "90 min", "1.5 h", "10.0 h"]
