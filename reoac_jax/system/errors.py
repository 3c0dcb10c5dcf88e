"""A user's mistake ends in one clear line and exit code 2; this is where that is arranged."""

import contextlib
import errno
import sys
from collections.abc import Callable, Sequence

from reoac_jax.system.streams import OutputLost, guarded_streams

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as a program that SIGPIPE ends

# What the system may refuse of a path that the user gave, wherever it is first touched, and what
# was expected instead.
_PATHS_REFUSED = {
    errno.ENAMETOOLONG: "a shorter path",
    errno.EISDIR: "a file",
    errno.ENOTDIR: "a folder above it",
    errno.EACCES: "a path that may be read and written",
    errno.ELOOP: "a path without a circle of links",
}

# What stops a write through no mistake in the input.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class InputError(Exception):
    """A mistake in what the user gave. The message is one line: what, where, what was expected."""


class RunError(Exception):
    """A run that cannot go on, through no mistake in its input. The message is one line."""


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command line's `main(argv)` and returns its exit code.

    `InputError` is printed to standard error as `error: <one line>` and gives exit code 2, without
    a traceback, and so is a path that the system cannot take; `RunError` likewise with exit code 1,
    and a disk or a standard output that cannot be written. Ctrl-C gives exit code 130, a pipe that
    nobody reads any more 141. Every other exception is a defect of the program and keeps its
    traceback.
    """
    with guarded_streams():
        try:
            try:
                code = main(sys.argv[1:] if argv is None else argv)
            except SystemExit as end:  # argparse ends so, after --help
                if end.code is not None and not isinstance(end.code, int):
                    raise
                code = end.code or 0
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            return EXIT_INTERRUPTED
        except OutputLost as lost:
            if lost.unread:
                return EXIT_UNREAD
            return _refused(
                f"standard output cannot be written ({lost.reason}); expected room for the result",
                EXIT_FAILED,
            )
        except (InputError, RunError) as error:
            code = EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED
            return _refused(str(error), code)
        except OSError as error:
            if error.errno in _NO_ROOM:
                where = error.filename or "a file"
                return _refused(
                    f"{where} cannot be written: {error.strerror}; expected a disk with room",
                    EXIT_FAILED,
                )
            if error.filename is None or error.errno not in _PATHS_REFUSED:
                raise
            expected = _PATHS_REFUSED[error.errno]
            return _refused(
                f"{error.filename}: {error.strerror}; expected {expected}", EXIT_BAD_INPUT
            )


def _refused(message: str, code: int) -> int:
    """Says why the command ends, after what it has printed so far; returns `code`."""
    with contextlib.suppress(OutputLost):
        sys.stdout.flush()
    # Only line breaks go: a printed command must keep the spaces of its paths.
    line = " ".join(part.strip() for part in message.splitlines())
    print(f"error: {line}", file=sys.stderr, flush=True)
    return code
