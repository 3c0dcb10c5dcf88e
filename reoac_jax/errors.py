"""A user's mistake ends in one clear line and exit code 2; this is where that is arranged."""

import sys
from collections.abc import Callable, Sequence

EXIT_BAD_INPUT = 2


class InputError(Exception):
    """A mistake in what the user gave. The message is one line: what, where, what was expected."""


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command line's `main(argv)` and returns its exit code.

    `InputError` is printed to standard error as `error: <one line>` and gives exit code 2, without
    a traceback. Every other exception is a defect of the program and keeps its traceback.
    """
    try:
        return main(sys.argv[1:] if argv is None else argv)
    except InputError as error:
        line = " ".join(str(error).split())
        print(f"error: {line}", file=sys.stderr, flush=True)
        return EXIT_BAD_INPUT
