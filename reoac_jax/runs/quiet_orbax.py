"""Orbax and TensorStore print an error from several threads, beside raising it; users get one line.

What is raised is left alone: the caller turns it into the line.
"""

import logging
import sys
import warnings
from typing import Any

# TensorStore reports this for every write that a failed save left behind.
_LEFT_BEHIND = "Event loop is closed"
_NEVER_BEGUN = "coroutine .* was never awaited"
_other_errors = sys.unraisablehook


def quiet_orbax() -> Any:
    """`orbax.checkpoint` without its own log and TensorStore's notes on abandoned writes.

    Imported when it is first asked for: it takes a fifth of a command's start.
    """
    import orbax.checkpoint

    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # Of several writes that fail at once one is raised, and asyncio logs the others.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # Where one fails early the others are never begun, which Python finds when it lets them go.
    warnings.filterwarnings("ignore", _NEVER_BEGUN, RuntimeWarning)
    sys.unraisablehook = _without_abandoned_writes
    return orbax.checkpoint


def _without_abandoned_writes(unraisable: "sys.UnraisableHookArgs") -> None:
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == _LEFT_BEHIND):
        _other_errors(unraisable)
