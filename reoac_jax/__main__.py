"""`reoac COMMAND ...` is `python -m reoac_jax.MODULE ...`, for the modules below."""

import runpy
import sys
from collections.abc import Sequence

from reoac_jax.system.errors import InputError, run_command

# Name of the command: module in the package.
COMMANDS = {
    "train": "train",
    "evaluate": "evaluate",
    "sft": "sft",
    "solve": "solve",
    "watch": "watch",
    "lm_eval": "lm_eval",
    "report": "report",
    "prepare": "tasks.prepare",
    "to_flax": "convert.to_flax",
    "from_flax": "convert.from_flax",
    "mdlm_to_flax": "convert.mdlm_to_flax",
    "flax_to_mdlm": "convert.flax_to_mdlm",
    "peft_to_flax": "convert.peft_to_flax",
}


def forward(argv: Sequence[str]) -> int:
    """Runs the module of the command `argv[0]` with the rest of `argv`."""
    if not argv or argv[0] not in COMMANDS:
        given = f"command {argv[0]!r} is unknown" if argv else "no command given"
        raise InputError(f"{given}; expected one of {', '.join(COMMANDS)}")
    command, *sys.argv[1:] = argv
    runpy.run_module(f"reoac_jax.{COMMANDS[command]}", run_name="__main__", alter_sys=True)
    return 0


def main() -> int:
    """The console script `reoac`; returns the exit code."""
    return run_command(forward)


if __name__ == "__main__":
    sys.exit(main())
