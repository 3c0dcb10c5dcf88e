"""Asks a model questions, or has it fill the blanks of a text.

    python -m reoac_jax.solve --checkpoint runs/tiny/<timestamp> "8 14 15 = 2 ?"
    python -m reoac_jax.solve --checkpoint runs/tiny/<timestamp> --interactive --trace
    python -m reoac_jax.solve --checkpoint checkpoints/mdlm-owt --config configs/gsm8k.py \\
        --policy confidence "A text with a blank of [MASK] token or [MASK:3] tokens." < /dev/null

Without a question, each line of standard input is one. A text with blanks, [MASK] for one token and
[MASK:n] for n, is filled and changed nowhere else; one space before a blank belongs to the blank.
--checkpoint takes a run, a checkpoint in it, or a converted backbone folder. Without --config the
run's own configuration holds; without --checkpoint things are as in python -m reoac_jax.evaluate.
--trace shows the denoising on standard error. Each answer comes with the result that the task finds
in it and the number of forward passes.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from reoac_jax.config import parse_command_line
from reoac_jax.devices.compilation import set_up_compilation
from reoac_jax.devices.environment import check_devices, set_up_jax
from reoac_jax.evaluation.policy_option import policy_option
from reoac_jax.solver import Answer, Solver
from reoac_jax.solver.denoising_view import DenoisingView
from reoac_jax.solver.infilling import has_blanks, parse_blanks
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.progress import working


def main(argv: Sequence[str]) -> int:
    set_up_jax()
    parser = argparse.ArgumentParser(
        prog="python -m reoac_jax.solve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION")
    parser.add_argument("--checkpoint", metavar="DIR", help="a run, a checkpoint, or a backbone")
    parser.add_argument("--config", help="a configuration file; default: the run's")
    parser.add_argument("--policy", **policy_option())
    parser.add_argument("--interactive", action="store_true", help="ask for questions")
    parser.add_argument("--trace", action="store_true", help="show each denoising step")
    options, overrides = parse_command_line(parser, argv)
    if options.interactive and options.questions:
        raise InputError("expected a question or --interactive, not both")
    if not options.questions and not options.interactive and sys.stdin.isatty():
        raise InputError("no question; expected one as argument, standard input or --interactive")
    check_devices()
    view = DenoisingView() if options.trace else None
    with working("loading the model"):
        solver = Solver.load(
            options.checkpoint,
            config=options.config,
            policy=options.policy,
            overrides=overrides,
            on_step=view,
        )
    set_up_compilation(solver.config.compilation.cache_dir)
    with solver:
        if options.interactive:
            return _converse(solver, view)
        questions = options.questions or _piped_questions()
        answers = _ask(solver, questions, view)
        for place, answer in enumerate(answers):
            if place:
                print()
            if len(questions) > 1:
                print(answer.prompt)
            print(_report(answer))
    return 0


def _piped_questions() -> list[str]:
    """The lines of standard input that are not blank. Raises `InputError` if there are none."""
    try:
        questions = [question for line in sys.stdin if (question := _question(line))]
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 ({error.reason}); expected UTF-8") from None
    if not questions:
        raise InputError("standard input holds no question; expected one a line")
    return questions


def _question(line: str) -> str:
    """A line of input without the space around it, and without the byte-order mark of its file."""
    return line.removeprefix("\ufeff").strip()


def _ask(solver: Solver, questions: Sequence[str], view: DenoisingView | None) -> Iterator[Answer]:
    """Answers in order: one by one if somebody looks on, else all together."""
    if view is None:
        with working("solving"):
            answers: dict[int, Answer] = {}
            for blanked, run in ((False, solver.solve), (True, solver.infill)):
                places = [i for i, text in enumerate(questions) if has_blanks(text) == blanked]
                answers |= zip(places, run([questions[i] for i in places]), strict=True)
        yield from (answers[place] for place in range(len(questions)))
        return
    for question in questions:
        yield _watched(solver, question, view)


def _watched(solver: Solver, question: str, view: DenoisingView) -> Answer:
    mask_id = solver.parts.model.spec.mask_id
    run: Callable[[Sequence[str]], list[Answer]]
    if has_blanks(question):
        parsed = parse_blanks(question, solver.parts.tokenizer, mask_id)
        run, given = solver.infill, parsed.given
    else:
        run, given = solver.solve, np.full(solver.config.rollout.gen_len, mask_id, np.int32)
    max_steps = solver.max_steps(len(given))
    operators = solver.config.operators.names
    with view.watching(question, given, solver.parts.tokenizer, mask_id, max_steps, operators):
        (answer,) = run([question])
        jax.effects_barrier()  # the last steps may still be on their way to the view
    return answer


def _converse(solver: Solver, view: DenoisingView | None) -> int:
    """Questions from the terminal until its input ends or Ctrl-C."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - editing and history for `input`
    print("a question a line; [MASK] is a blank; end with Ctrl-D", file=sys.stderr)
    while True:
        try:
            question = _question(input("> "))
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if not question:
            continue
        try:
            for answer in _ask(solver, [question], view):
                print(_report(answer))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)


def _report(answer: Answer) -> str:
    lines = [answer.text]
    if answer.blanks:
        lines.append("blanks: " + " | ".join(answer.blanks))
    lines.append(f"result: {'none found' if answer.extracted is None else answer.extracted}")
    passes = f"{answer.forward_passes} forward passes in {answer.steps} steps"
    if answer.operators:
        passes += ": " + " ".join(answer.operators)
    return "\n".join([*lines, passes])


if __name__ == "__main__":
    sys.exit(run_command(main))
