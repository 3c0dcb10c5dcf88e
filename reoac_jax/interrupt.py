"""Ctrl-C as a request that a training loop answers by saving and stopping."""

import signal
import sys
from typing import Any


class Interrupt:
    """Ctrl-C: the first asks the loop to stop at the next safe place, the second kills as usual."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, signal_number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\nstopping: saving what is done (Ctrl-C again to lose it)", file=sys.stderr)
