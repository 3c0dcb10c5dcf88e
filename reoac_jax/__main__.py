"""`reoac COMMAND ...` is `python -m reoac_jax.COMMAND ...`."""

import runpy
import sys
from collections.abc import Sequence

from reoac_jax.errors import InputError, run_command

COMMANDS = ("train", "evaluate", "sft", "solve", "watch")


def forward(argv: Sequence[str]) -> int:
    """Runs the module of the command `argv[0]` with the rest of `argv`."""
    if not argv or argv[0] not in COMMANDS:
        given = f"command {argv[0]!r} is unknown" if argv else "no command given"
        raise InputError(f"{given}; expected one of {', '.join(COMMANDS)}")
    command, *sys.argv[1:] = argv
    runpy.run_module(f"reoac_jax.{command}", run_name="__main__", alter_sys=True)
    return 0


def main() -> int:
    """The console script `reoac`; returns the exit code."""
    return run_command(forward)


if __name__ == "__main__":
    sys.exit(main())
