"""Evaluates a policy on the test (or development) problems, strictly graded.

    python -m reoac_jax.evaluate --config configs/gsm8k.py \\
        --checkpoint runs/gsm8k/<timestamp>/checkpoints --output runs/eval_gsm8k.json [--limit N]
    python -m reoac_jax.evaluate --config configs/gsm8k.py --policy confidence --output FILE.json

--policy NAME[:PARAMETER=VALUE,...] says who decides: `actor` (the trained one, default),
`untrained_actor` (as training would start), `random_operator`, an operator at every step, operators
for each step (O_FAST,O_SCOPE,...), or a sampler (`threshold:threshold=0.8`; docs/samplers.md).
`--policy help` lists them with their parameters. Without --checkpoint `actor` takes the newest run
of the configuration's `exp_name`, and every other policy the configuration's backbone as it is.
Beside the JSON file a .jsonl file of the same name holds every answer.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from reoac_jax.config import parse_command_line
from reoac_jax.evaluation.policy_option import policy_option
from reoac_jax.system.errors import InputError, run_command


def main(argv: Sequence[str]) -> int:
    options, overrides = parse(argv)
    check_writable(Path(options.output))
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit is {options.limit}; expected 1 or more")
    from reoac_jax.evaluation.to_files import evaluate  # JAX, which --help does without

    evaluate(options, overrides, argv)
    return 0


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the overrides of the configuration. Raises `InputError`."""
    parser = argparse.ArgumentParser(
        prog="python -m reoac_jax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="a configuration file")
    parser.add_argument("--checkpoint", help="checkpoints/ of a run, or one iteration in it")
    parser.add_argument("--output", required=True, help="the JSON file to write")
    parser.add_argument("--limit", type=int, help="only the first N problems")
    parser.add_argument(
        "--split", choices=("dev", "test"), default="test", help="dev: to choose parameters on"
    )
    parser.add_argument("--policy", **policy_option())
    return parse_command_line(parser, argv)


def check_writable(output: Path) -> None:
    """Raises `InputError` unless `output`, and the .jsonl beside it, can be written."""
    if output.suffix != ".json":
        raise InputError(f"--output is {output}; expected a file name that ends in .json")
    for file in (output, output.with_suffix(".jsonl")):
        if file.is_dir():
            raise InputError(f"--output: {file} is a folder; expected a file")
    probe = next(p for p in (output.parent, *output.parent.parents) if p.exists())
    if not probe.is_dir() or not os.access(probe, os.W_OK):
        raise InputError(
            f"--output is {output}; expected a folder that can be written, {probe} is none"
        )


if __name__ == "__main__":
    sys.exit(run_command(main))
