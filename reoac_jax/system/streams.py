"""Standard input, output and error as a shell may leave them: closed, full, read by nobody."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class OutputLost(BaseException):
    """Standard output takes no more.

    A `BaseException`, so that nothing takes it for the error of a file of its own.
    """

    def __init__(self, error: OSError | ValueError):
        super().__init__(str(error))
        self.error = error

    @property
    def unread(self) -> bool:
        """Whether the other end of a pipe was closed, as `head` does it: no mistake of anybody."""
        return isinstance(self.error, BrokenPipeError)

    @property
    def reason(self) -> str:
        return getattr(self.error, "strerror", None) or str(self.error)


class _Stream:
    """A text stream that says what its encoding lacks as `\\xe9` does, and fails as told."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            try:
                return self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                replaced = text.encode(encoding, "backslashreplace").decode(encoding)
                return self._stream.write(replaced)
        except (OSError, ValueError) as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def _failed(self, error: OSError | ValueError) -> None:
        # What is still in the buffer would fail again, with a traceback, when Python ends.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Results(_Stream):
    """Standard output: a result that cannot be written ends the command."""

    def _failed(self, error: OSError | ValueError) -> None:
        super()._failed(error)
        raise OutputLost(error) from None


class _Messages(_Stream):
    """Standard error: what nobody can read is left unsaid, and the work goes on."""


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Lets no stream end the command in a traceback; `OutputLost` is raised for standard output.

    A stream that was closed before Python started is an empty one.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    with contextlib.ExitStack() as opened:

        def or_empty(stream: TextIO | None, mode: str) -> TextIO:
            if stream is not None:
                return stream
            return cast(TextIO, opened.enter_context(open(os.devnull, mode, encoding="utf-8")))

        sys.stdin = or_empty(sys.stdin, "r")
        sys.stdout = cast(TextIO, _Results(or_empty(sys.stdout, "w")))
        sys.stderr = cast(TextIO, _Messages(or_empty(sys.stderr, "w")))
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before
