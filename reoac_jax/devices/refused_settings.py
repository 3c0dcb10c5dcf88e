"""Values in the environment that JAX refuses while it is imported: one line, as for every mistake.

JAX reads its settings when it is imported, which is before a command's `main` begins, and raises
there. JAX is not imported here.
"""

import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from reoac_jax.system.errors import EXIT_BAD_INPUT

_PROJECT = Path(__file__).resolve().parents[2]
_READER = "jax/_src/config.py"  # of JAX's settings
_EXPECTED = {
    "bool_env": "true or false",
    "int_env": "an integer",
    "int_state": "an integer",
    "float_state": "a number",
}


def refused_setting(error: BaseException) -> str | None:
    """What is wrong with which variable, in one line; None unless JAX refused its environment."""
    if not isinstance(error, ValueError):
        return None
    expected = f"what JAX takes ({error})"
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if not frame.f_code.co_filename.endswith(_READER):
            return None  # raised elsewhere, or by none of its readers
        values = frame.f_locals
        choices: Iterable[object] = values.get("enum_values") or values.get("enum_class") or ()
        words = [str(getattr(choice, "value", choice)) for choice in choices]
        expected = " or ".join(words) or _EXPECTED.get(frame.f_code.co_name, expected)
        name = str(values.get("varname") or values.get("name")).upper()
        if name in os.environ:
            return (
                f"JAX refuses the environment variable {name}={os.environ[name]!r}; "
                f"expected {expected}, or the variable unset"
            )
    return None


def explain_refused_settings() -> None:
    """Ends a command whose import of JAX is refused with one line and exit code 2.

    Does nothing in a program that only uses the package: there it is an exception as any other.
    """
    if not _is_command(sys.argv[0] if sys.argv else ""):
        return
    others = sys.excepthook

    def explain(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        line = refused_setting(error)
        if line is None:
            others(kind, error, trace)
            return
        print(f"error: {' '.join(line.split())}", file=sys.stderr, flush=True)
        os._exit(EXIT_BAD_INPUT)  # what returns from here exits with 1

    sys.excepthook = explain


def _is_command(started: str) -> bool:
    """Whether Python was started on this package, on a script of the project, or on `reoac`.

    started: `sys.argv[0]` while the package is imported; it is "-m" until Python has found the
    module that it was told to run, and the package around that comes first.
    """
    path = Path(started)
    return started == "-m" or path.name == "reoac" or path.resolve().parents[1:2] == (_PROJECT,)
