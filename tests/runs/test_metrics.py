"""The metrics file, the progress line, Wilson's interval."""

import io
import json
import math
import os
import time

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from support.terminal import Terminal

from reoac_jax.evaluation.intervals import wilson_interval
from reoac_jax.runs.metrics import MetricsLog
from reoac_jax.system.errors import InputError
from reoac_jax.system.progress import ProgressLine, say, working


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_there_when_append_returns(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.append(1, {"loss": jnp.float32(0.5), "shares": {"O_NUM": np.float64(1)}, "n": (1, 2)})
        expected = {"iteration": 1, "loss": 0.5, "shares": {"O_NUM": 1.0}, "n": [1, 2]}
        assert read(path) == [expected]
        log.append(2, {"text": "ä", "none": None})
    assert read(path)[1] == {"iteration": 2, "text": "ä", "none": None}


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), jnp.float32(-jnp.inf)])
def test_non_finite_values_are_named_and_not_written(tmp_path, value):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.append(1, {"a": 1})
        with pytest.raises(FloatingPointError, match=r"b\.c\[1\] is .* in iteration 2"):
            log.append(2, {"b": {"c": [0.0, value]}})
    assert read(path) == [{"iteration": 1, "a": 1}]


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("tail", [b"", b'{"iteration": 4, "lo', b"\xff", b'{"iteration": 2}'])
def test_resume_keeps_the_lines_through_an_iteration(tmp_path, kept, tail):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for iteration in (1, 2, 3):
            log.append(iteration, {"loss": iteration / 7})
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + tail)
    with MetricsLog(path, keep_through=kept) as log:
        log.append(99, {})
    assert path.read_bytes().splitlines(keepends=True)[:-1] == whole[:kept]
    assert read(path)[-1] == {"iteration": 99}
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_files_that_cannot_be_gone_on_with(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n')
    with pytest.raises(InputError, match="already holds metrics"):
        MetricsLog(path)
    for line in ("{", "[1]", '{"loss": 1}', '{"iteration": "x"}'):
        path.write_text(f'{{"iteration": 1}}\n{line}\n{{"iteration": 3}}\n')
        with pytest.raises(InputError, match="line 2 is damaged"):
            MetricsLog(path, keep_through=3)
    MetricsLog(tmp_path / "lost.jsonl", keep_through=3).close()


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(correct_n):
    correct, n = correct_n
    low, high = wilson_interval(correct, n, z=1.959963984540054)
    reference = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert low == pytest.approx(reference.low, abs=1e-12)
    assert high == pytest.approx(reference.high, abs=1e-12)
    assert 0 <= low <= correct / n <= high <= 1


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_interval_refuses(correct, n):
    with pytest.raises(ValueError):
        wilson_interval(correct, n)


def test_progress_in_a_log_file():
    stream = io.StringIO()
    with ProgressLine(5, "train", done=1, seconds_between_lines=1e9, stream=stream) as progress:
        for reward in (0.25, 0.5, 0.75, 1.0):
            progress.update(reward=reward, mode="lora")
        progress.note("saved")
    first, last, note = stream.getvalue().splitlines()
    assert first.startswith("train: 2/5 it") and first.endswith("reward 0.25, mode lora")
    assert last.startswith("train: 5/5 it") and "0 s left" in last and "reward 1" in last
    assert note == "saved"


def test_progress_on_a_terminal():
    with Terminal() as terminal:
        with ProgressLine(2, "train", stream=terminal.stream) as progress:
            progress.update(2, reward=0.5)
            progress.note("saved")
        terminal.wait_for("saved")
        terminal.wait_for("reward=0.5")
        assert "2/2" in terminal.shown and "\r" in terminal.shown


def test_what_others_say_stands_above_the_bar_in_one_piece(monkeypatch):
    command = "python -m reoac_jax.train --resume " + "/a folder" * 20  # wider than the terminal
    with Terminal() as terminal:
        with ProgressLine(2, "train", stream=terminal.stream) as progress:
            progress.update()
            say(command)
        terminal.wait_for("folder\r\n")
    assert command in terminal.shown


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_moves_no_cursor_gets_plain_lines(kind, monkeypatch):
    monkeypatch.setenv("TERM", kind)
    with Terminal() as terminal:
        with ProgressLine(2, "train", stream=terminal.stream) as progress:
            progress.update(2)
        terminal.wait_for("train: 2/2 it")
        assert "\x1b" not in terminal.shown


def test_progress_without_a_total():
    stream = io.StringIO()
    with ProgressLine(None, "reading", unit="row", stream=stream) as progress:
        for _ in range(3):
            progress.update()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("reading: 1 row, ") and "left" not in line


@pytest.mark.parametrize("total", [2, None])
def test_progress_of_short_work_is_not_shown(total):
    stream = io.StringIO()
    with ProgressLine(total, "part", after=60.0, stream=stream) as progress:
        progress.update(2)
    assert stream.getvalue() == ""
    with ProgressLine(total, "part", after=0.01, stream=stream) as progress:
        time.sleep(0.02)
        progress.update(2)
    assert stream.getvalue().startswith("part: 2")


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_working_says_so_only_when_it_takes_long():
    stream = io.StringIO()
    with working("loading", after=60.0, stream=stream):
        pass
    with pytest.raises(ValueError), working("failing", after=60.0, stream=stream):
        raise ValueError
    assert stream.getvalue() == ""
    with working("loading", after=0.0, stream=stream):
        wait_until(stream.getvalue)
    assert stream.getvalue() == "loading ...\n"


def test_working_on_a_terminal_leaves_nothing_behind():
    with Terminal() as terminal:
        with working("loading", after=60.0, stream=terminal.stream):
            pass
        with working("loading", after=0.0, stream=terminal.stream):
            terminal.wait_for("loading")
        terminal.wait_for("\x1b[?25h")  # the cursor is back
        terminal.wait_for("\x1b[2K")  # and the line is cleared
        assert "..." not in terminal.shown
