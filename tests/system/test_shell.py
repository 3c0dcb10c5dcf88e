"""Printed commands: what the shell makes of them is the words they were made of."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reoac_jax.system.shell import quoted, shell_command


def shell_words(command: str) -> list[str]:
    """What bash starts for `command`, as the words that it hands to the program."""
    script = f'python() {{ printf "%s\\0" "$@"; }}; {command}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert not done.stderr
    return done.stdout.decode(errors="surrogateescape").split("\0")[:-1]


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(words, min_size=1, max_size=5))
@example(["a b", 'say "x"', "it's", "$(touch ran)", "`id`", "a\nb\tc", "~", "*", "\\", "\u200b0"])
@settings(max_examples=60, deadline=None)
def test_bash_reads_the_words_back(arguments):
    command = shell_command("train", *arguments)
    assert "\n" not in command and "\r" not in command
    assert shell_words(command) == ["-m", "reoac_jax.train", *arguments]


def test_a_plain_command_stays_plain():
    assert (
        shell_command("train", "--resume", Path("runs/tiny/20260101-000000"))
        == "python -m reoac_jax.train --resume runs/tiny/20260101-000000"
    )


def test_a_path_is_never_an_option():
    command = shell_command("report", Path("-rf"))
    assert shlex.split(command)[3:] == ["./-rf"]


@pytest.mark.parametrize("word", ["a\udcffb", "\x1b[2J"])
def test_bytes_that_are_no_text_survive(word):
    (read,) = shell_words(f"python {quoted(word)}")
    assert read == word
