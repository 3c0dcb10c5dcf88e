"""Evaluates a policy on tasks of lm-eval, the Language Model Evaluation Harness.

    python -m reoac_jax.lm_eval --model_args config=configs/gsm8k.py,checkpoint=runs/gsm8k/TIME \\
        --tasks gsm8k --num_fewshot 0 --output_path runs/lm_eval
    python -m reoac_jax.lm_eval --tasks minerva_math --num_fewshot 0 --model_args \\
        "config=configs/math.py,policy='threshold:threshold=0.9',rollout.max_prompt_len=512"

This is the command line of the harness itself with one more model, `reoac`, which is the default;
`python -m reoac_jax.lm_eval run --help` prints its options. Model arguments are `config`,
`checkpoint` and `policy` as in python -m reoac_jax.solve, and any key of the configuration.
`--batch_size` is `evaluation.batch_size`. The harness writes the prompts: its worked examples have
to fit into `rollout.max_prompt_len`, and a conversation (`--apply_chat_template`) needs
`task.prompt=chat`. Only tasks that have a text written are answered (`generate_until`), and those
that say how many tokens it may have, `max_gen_toks`, have to agree with `rollout.gen_len`.
"""

import argparse
import sys
from collections.abc import Sequence

from reoac_jax.system.errors import InputError, run_command


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        parser = argparse.ArgumentParser(
            prog="python -m reoac_jax.lm_eval",
            usage="%(prog)s [run | ls | validate] [OPTION ...]",
            description=__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
        )
        parser.print_help()
        return 0
    # Now: JAX and the harness, which --help does without.
    from reoac_jax.devices.environment import set_up_jax

    set_up_jax()
    try:
        from lm_eval.__main__ import cli_evaluate

        from reoac_jax.solver.harness import NAME
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "reoac_jax":
            raise
        raise InputError(
            f'lm-eval is not complete here (no {error.name}); pip install "reoac-jax[lm-eval]"'
        ) from error
    command = list(argv) if argv[0] in ("run", "ls", "validate") else ["run", *argv]
    given = {option.partition("=")[0] for option in command}
    # A file of options may name the model as well.
    if command[0] == "run" and not given & {"--model", "-M", "--config", "-C"}:
        command += ["--model", NAME]
    before, sys.argv = sys.argv, ["lm-eval", *command]  # where the harness reads them
    try:
        cli_evaluate()
    finally:
        sys.argv = before
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
