"""How a command line ends."""

import errno

import pytest

from reoac_jax.system.errors import InputError, RunError, run_command


def ends_with(error: BaseException):
    def main(argv):
        raise error

    return run_command(main, [])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("what\n  where"), 2, "error: what where\n"),
        (InputError("run 'a  b'; expected\n'c  d'"), 2, "error: run 'a  b'; expected 'c  d'\n"),
        (RunError("disk full"), 1, "error: disk full\n"),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "x/y"),
            2,
            "error: x/y: Is a directory; expected a file\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "x/y"),
            1,
            "error: x/y cannot be written: No space left on device; expected a disk with room\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_one_line_and_an_exit_code(error, code, line, capsys):
    assert ends_with(error) == code
    assert capsys.readouterr().err == line


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        ends_with(ZeroDivisionError())


def test_success_is_passed_on():
    assert run_command(lambda argv: len(argv), ["a", "b", "c"]) == 3
