"""SIGINT and SIGTERM: the first asks, the second kills."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reoac_jax.system.interrupt import Interrupt, Interrupted

STUBBORN = (
    "import time; from reoac_jax.system.interrupt import Interrupt\n"
    "with Interrupt() as interrupt:\n"
    "    print('ready', flush=True)\n"
    "    while not interrupt.asked: time.sleep(0.01)\n"
    "    print('asked', flush=True); time.sleep(600)"
)
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@SIGNALS
def test_the_first_signal_asks_and_gives_the_exit_code(number, capfd):
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        assert not interrupt.asked and interrupt.exit_code == 0
        assert list(interrupt.until_asked([1, 2])) == [1, 2]
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # at once: the same request
        assert interrupt.asked and interrupt.exit_code == 128 + number
        with pytest.raises(Interrupted):
            list(interrupt.until_asked([1, 2]))
    assert capfd.readouterr().err.count("stopping") == 1
    assert signal.getsignal(number) is before


def test_a_signal_is_heard_where_standard_error_is_closed():
    kept = os.dup(2)
    os.close(2)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.asked
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@pytest.mark.process
@SIGNALS
def test_the_second_signal_kills(number):
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == "asked\n"
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == -number
    assert error.strip().startswith("stopping") and "Traceback" not in error
