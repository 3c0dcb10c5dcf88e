"""Asking a model: the bundled backbone over countdown, from Python and from the command line."""

import io
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from support import toy
from support.terminal import Terminal

from reoac_jax import solve, train
from reoac_jax.config import base, load_config, validate
from reoac_jax.devices import sharding
from reoac_jax.evaluation import scoring as evaluation
from reoac_jax.learning.parts import load_parts
from reoac_jax.solver import Answer, Solver
from reoac_jax.solver.denoising_view import DenoisingView
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.tasks import TASKS, Problem, make_task
from reoac_jax.tasks.problem_set import ProblemSet

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny.py")
QUESTION = "8 14 15 = 2 ?"
BLANKED = f"{QUESTION} 15 - [MASK] = 7 , 14 / 7 = [MASK] ;"
FILLED = f"{QUESTION} 15 - 8 = 7 , 14 / 7 = 2 ;"


@pytest.fixture(scope="module")
def run(backbone, tmp_path_factory) -> Path:
    """A run of one small iteration over it."""
    output = tmp_path_factory.mktemp("runs")
    sizes = ("episodes_per_iter=8", "episodes_per_prompt=2", "buffer_size=8", "iterations=1",
             "critic_steps=1", "actor_steps=1", "head_batch=8")  # fmt: skip
    argv = [f"--config.train.{size}" for size in sizes]
    argv += ["--config.task.train_size=20", f"--config.backbone.path={backbone}"]
    assert run_command(train.main, ["--config", TINY, *argv, f"--config.output_dir={output}"]) == 0
    (run,) = (output / "tiny").iterdir()
    return run


@pytest.fixture(scope="module")
def solver(backbone) -> Solver:
    with Solver.load(backbone, config=TINY, policy="confidence") as solver:
        yield solver


@pytest.fixture(scope="module")
def actor(run) -> Solver:
    """The run's own policy; a run needs no configuration."""
    with Solver.load(run) as solver:
        yield solver


def test_answers_are_those_of_the_evaluation(solver, backbone):
    overrides = [f"--config.backbone.path={backbone}", "--config.task.test_size=12"]
    config = load_config(TINY, overrides)
    parts, task = load_parts(config), make_task(config.task, config.grader)
    problems = ProblemSet.load(task, "test", parts.tokenizer, config)
    expected = evaluation.evaluate_policy(
        "confidence", config, parts, parts.base, None, task, problems
    )
    answers = solver.solve([problem.prompt for problem in problems.problems])
    assert [answer.text for answer in answers] == list(expected.texts)
    assert [answer.extracted for answer in answers] == [g.extracted for g in expected.grades]
    assert [answer.forward_passes for answer in answers] == [7] * 12
    assert all(answer.operators is None and answer.blanks == () for answer in answers)
    assert any(grade.correct for grade in expected.grades)


def test_an_answer_does_not_depend_on_the_others(solver):
    together = solver.solve([QUESTION, "3 7 12 = 33 ?", "1 2 3 = 6 ?"])
    assert solver.solve(["3 7 12 = 33 ?"]) == [together[1]]
    assert solver.solve([]) == [] == solver.infill([])


def test_infilling(solver):
    other = f"{QUESTION} 15 - 8 = [MASK] , [MASK:3] = 2 ;"
    opening = "[MASK] - 8 = 7"
    answers = solver.infill([BLANKED, other, opening])
    first, second, third = answers
    assert first == Answer(BLANKED, FILLED, "2", ("8", "2"), 2, 2, None)
    assert second.text.startswith(f"{QUESTION} 15 - 8 = ") and second.text.endswith("= 2 ;")
    assert second.blanks[0] == "7" and len(second.blanks[1].split()) == 3
    assert third.text == f"{third.blanks[0]} - 8 = 7"
    assert solver.infill([other]) == [second]


def test_the_actor_of_a_run_needs_no_configuration(actor):
    (answer,) = actor.solve([QUESTION])
    assert answer.operators and len(answer.operators) == answer.steps
    assert set(answer.operators) <= {"O_NUM", "O_OP", "O_SCOPE", "O_BRANCH", "O_FAST"}
    (filled,) = actor.infill([BLANKED])
    assert filled.text.startswith(f"{QUESTION} 15 - ") and " = 7 , 14 / 7 = " in filled.text


def test_a_watcher_sees_every_step(run, actor, solver):
    seen = []

    def watcher(step, tokens, operator):
        acted = None if operator is None else int(operator[0])
        seen.append((int(step[0]), tokens[0].tolist(), acted))

    # The run trained no backbone: a sampler's answers are those over the backbone it began with.
    for policy, unwatched in (("actor", actor), ("confidence", solver)):
        seen.clear()
        with Solver.load(run, policy=policy, on_step=watcher) as solver:
            (answer,) = solver.solve([QUESTION])
            jax.effects_barrier()
        assert [step for step, _, _ in seen] == list(range(answer.steps))
        mask = solver.parts.model.spec.mask_id
        left = [tokens.count(mask) for _, tokens, _ in seen]
        assert left == sorted(left, reverse=True) and left[-1] == 0
        acted = [operator for _, _, operator in seen]
        assert (None in acted) == (policy == "confidence")
        assert unwatched.solve([QUESTION]) == [answer]


def command(capsys, monkeypatch, argv, stdin: str | None = None, terminal: bool = False):
    """Exit code, standard output and error."""
    text = io.StringIO(stdin or "")
    text.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdin", text)
    code = run_command(solve.main, argv)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_command_line(backbone, capsys, monkeypatch):
    model = ["--checkpoint", str(backbone), "--config", TINY, "--policy", "confidence"]
    code, out, err = command(capsys, monkeypatch, [*model, BLANKED])
    assert (code, err) == (0, "")
    assert out.splitlines() == [FILLED, "blanks: 8 | 2", "result: 2", "2 forward passes in 2 steps"]

    # As files begin that a Windows program wrote, here two of them.
    code, out, err = command(capsys, monkeypatch, model, f"\ufeff{BLANKED}\n\n\ufeff{QUESTION}\n")
    assert code == 0 and out.startswith(f"{BLANKED}\n{FILLED}\nblanks")
    assert f"\n\n{QUESTION}\n" in out and "7 forward passes" in out

    code, out, err = command(capsys, monkeypatch, [*model, "--trace", BLANKED])
    assert code == 0 and out.splitlines()[0] == FILLED
    steps = [line for line in err.splitlines() if not line.startswith("compiled ")]
    assert steps[0] == BLANKED and len(steps) == 3 and steps[1].startswith("step 1 of 7: ")
    assert steps[1].count("▁") == 1 and steps[2].endswith("8 = 7 , 14 / 7 = 2 ;")
    argv = [*model[:-1], "confidence:steps=9", "--trace", BLANKED]  # more than rollout.max_steps
    code, out, err = command(capsys, monkeypatch, argv)
    assert code == 0 and "step 1 of 9: " in err

    lines = iter([f"\ufeff{QUESTION}", "", "1 " * 17, BLANKED])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, None) or _end(lines))
    code, out, err = command(capsys, monkeypatch, [*model, "--interactive"])
    assert code == 0 and FILLED in out and out.count("result:") == 2 and "7 forward passes" in out
    assert "has 17 tokens; expected 1 to 16" in err and "Traceback" not in err


def _end(lines):
    """An empty line if there are more, else the end of the input."""
    if lines.__length_hint__():
        return ""
    raise EOFError


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["question"], "--config"),
        (["--interactive", "question"], "--interactive"),
        (["--checkpoint", "{backbone}", "q"], "no configuration for"),
        (["--checkpoint", "{backbone}", "--config", TINY, "q"], "has no actor"),
        (["--checkpoint", "nowhere", "q"], "nowhere"),
        (["--checkpoint", "{run}", "--policy", "best", "q"], "best"),
        (["--checkpoint", "{run}", "1 " * 17], "17 tokens"),
        (["--checkpoint", "{run}", "[MASK:200]"], "context of 128"),
        (["--checkpoint", "{run}", "--config.rollout.max_step=3", "q"], "max_steps"),
        (["--checkpoint", "{run}"], "no question"),
    ],
)
def test_mistakes_get_one_line(argv, expected, backbone, run, capsys, monkeypatch):
    argv = [text.format(backbone=backbone, run=run) for text in argv]
    code, out, err = command(capsys, monkeypatch, argv, terminal=True)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and expected in err


def test_view_tells_what_happened_to_each_token(solver):
    parts = solver.parts
    mask, view = parts.model.spec.mask_id, DenoisingView(io.StringIO())
    given = np.array([mask, mask, mask, 7], np.int32)
    with view.watching("prompt", given, parts.tokenizer, mask, 9, toy.ORIGINAL):
        view(np.array([0]), np.array([[5, 6, mask, 7]]), None)
        line = view.render(np.array([5, mask, 8, 7]))
    styles = [str(span.style) for span in line.spans]
    assert styles == ["cyan", "yellow", "bold green"]  # kept, repaired, new; the given one plain


def test_view_on_a_terminal_shows_each_step(solver):
    parts = solver.parts
    mask = parts.model.spec.mask_id
    tokens = np.array(parts.tokenizer("15 - 8 = 7")["input_ids"], np.int32)
    half = np.where(np.arange(5) < 2, tokens, mask)
    with Terminal() as terminal:
        view = DenoisingView(terminal.stream)
        blank = np.full_like(tokens, mask)
        with view.watching(QUESTION, blank, parts.tokenizer, mask, 2, toy.ORIGINAL):
            view(np.array([0]), half[None], np.array([2]))
            view(np.array([-1]), tokens[None], np.array([2]))  # took no step now
            view(np.array([1]), tokens[None], np.array([4]))
        terminal.wait_for("\x1b[?25h")  # the cursor is back
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.shown)
    frames = re.findall(r"(\S+ \S+ \S+ \S+ \S+)\r\nstep (\d of 2(?: O_\w+)?)", plain)
    assert list(dict.fromkeys(frames)) == [
        ("▁ ▁ ▁ ▁ ▁", "0 of 2"),
        ("15 - ▁ ▁ ▁", "1 of 2 O_SCOPE"),
        ("15 - 8 = 7", "2 of 2 O_FAST"),
    ]


@pytest.mark.parametrize("name", TASKS)
def test_extract_finds_what_grading_finds(name):
    """`math` in its own processes: this is also what a question to it starts."""
    config = base()
    config.task.name = name
    config.grader.workers = 1
    config = validate(config)
    task = make_task(config.task, config.grader)
    texts = ["15 - 8 = 7 , 14 / 7 = 2 ;", "#### 1,234", r"so \boxed{\frac12}", "nothing", "= x 3 ,"]
    problem = Problem("id", "8 14 15 = 2 ?", "2", name, {"numbers": [8, 14, 15], "solution": ""})
    try:
        grades = task.grade(texts, [problem] * len(texts))
        assert task.extract(texts) == [grade.extracted for grade in grades]
        assert any(found is not None for found in task.extract(texts))
    finally:
        task.close()


def test_solver_refuses_what_it_cannot_load(tmp_path):
    with pytest.raises(InputError, match="no configuration"):
        Solver.load(policy="confidence")
    assert sharding.make_mesh().size == 4  # the tests above ran on several devices
