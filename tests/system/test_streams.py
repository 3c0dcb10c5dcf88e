"""Closed, full and unread standard streams, as a shell hands them to a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
# Prints much, asks a question's worth of input, says something on standard error.
PROGRAM = """
import argparse, sys
from reoac_jax.system.errors import InputError, run_command

def main(argv):
    argparse.ArgumentParser().parse_known_args(argv)
    if argv[0] == "refuse":
        print("so far")
        raise InputError("what; expected that")
    print("working", file=sys.stderr)
    print("read", len(sys.stdin.read()))
    for _ in range(int(argv[1])):
        print("caf\\u00e9 " * 20)
    return 0

sys.exit(run_command(main))
"""


def shell(redirections: str, lines: int = 20_000, what: str = "print", **environment: str):
    """The program under bash, with what follows it in the script."""
    return subprocess.run(
        ["bash", "-c", f'"$PYTHON" -c "$PROGRAM" {what} {lines} {redirections}'],
        env=os.environ
        # Buffered, as a user's Python is: what is lost shows when the buffer is written.
        | {"PYTHON": sys.executable, "PROGRAM": PROGRAM, "PYTHONPATH": str(ROOT)}
        | {"PYTHONUNBUFFERED": ""}
        | environment,
        capture_output=True, input=b"",
    )  # fmt: skip


@pytest.mark.parametrize("lines", [0, 20_000])
def test_a_pipe_that_nobody_reads(lines):
    done = shell('| true; exit "${PIPESTATUS[0]}"', lines)
    assert done.returncode in (0, 141) and done.stderr in (b"working\n", b"")


def test_a_pipe_that_is_read_a_little():
    done = shell('| head -1; exit "${PIPESTATUS[0]}"')
    assert done.returncode == 141
    assert (done.stdout, done.stderr) == (b"read 0\n", b"working\n")


@pytest.mark.parametrize("lines", [0, 20_000])
def test_a_full_output(lines):
    done = shell("> /dev/full", lines)
    assert done.returncode == 1
    working, line = done.stderr.decode().splitlines()
    assert line.startswith("error: standard output") and "No space left on device" in line


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "2> /dev/full", "<&- >&- 2>&-"])
def test_closed_streams_are_empty_ones(closed):
    done = shell(closed)
    assert done.returncode == 0
    assert done.stderr in (b"working\n", b"")


@pytest.mark.parametrize("redirected", ["2> /dev/full", "2>&-", "> /dev/full", "2>&1 | true"])
def test_an_error_keeps_its_exit_code(redirected):
    done = shell(redirected + '; exit "${PIPESTATUS[0]}"', what="refuse")
    assert done.returncode == 2 and b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("redirected", "codes"), [("| true", (0, 141)), ("> /dev/full", (1,)), (">&-", (0,))]
)
def test_help_that_nobody_can_read(redirected, codes):
    done = shell(redirected + '; exit "${PIPESTATUS[0]}"', what="--help")
    assert done.returncode in codes and done.stderr.count(b"\n") == (codes == (1,))
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_an_encoding_that_lacks_a_character():
    done = shell("", 1, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0 and rb"caf\xe9" in done.stdout
