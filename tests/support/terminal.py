"""A pseudo-terminal of 24 lines and 100 columns, and what was shown on it."""

import fcntl
import os
import pty
import select
import struct
import termios
import time
from typing import Self


class Terminal:
    """`stream` is a program's side of it; `shown` is all that was read from the other side."""

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.stream = os.fdopen(slave, "w")
        self._bytes = b""
        return self

    def __exit__(self, *exception: object) -> None:
        self.stream.close()
        os.close(self._master)

    @property
    def shown(self) -> str:
        return self._bytes.decode(errors="replace")

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        """Reads until `text` was shown; it may come in pieces."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} is not in {self.shown!r}"
            self._bytes += os.read(self._master, 65536)
