"""lm-eval's tasks, answered here: the harness's own code asks and grades, over the bundled rows."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support import toy

from reoac_jax import lm_eval as command
from reoac_jax.solver import Answer, Solver
from reoac_jax.system.errors import InputError, run_command

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny.py")
TASKS = Path(__file__).parent / "harness_tasks"
installed = importlib.util.find_spec("lm_eval") is not None
with_harness = pytest.mark.skipif(not installed, reason="needs lm-eval, the extra of that name")


@pytest.fixture(scope="module")
def drawing(backbone):
    """A model whose policy draws, two rows at a time."""
    from reoac_jax.solver.harness import HarnessModel

    return HarnessModel(TINY, str(backbone), "ancestral", batch_size=2)


def requests(*prompts: str, **settings):
    from lm_eval.api.instance import Instance

    return [
        Instance("generate_until", {}, (prompt, settings), place)
        for place, prompt in enumerate(prompts)
    ]


def simple_evaluate(model, task, tasks=TASKS, **options):
    import lm_eval as harness
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks))
    return harness.simple_evaluate(
        model=model, tasks=[task], task_manager=manager, bootstrap_iters=0, **options
    )


@with_harness
def test_a_task_is_scored_on_what_the_solver_writes(backbone, monkeypatch):
    import reoac_jax.solver.harness  # noqa: F401 - registers the model

    monkeypatch.chdir(ROOT)
    arguments = {"config": TINY, "checkpoint": str(backbone), "policy": "confidence"}
    found = simple_evaluate("reoac", "reoac_countdown", model_args=arguments)
    rows = found["samples"]["reoac_countdown"]
    prompts = [row["doc"]["question"] for row in rows]
    with Solver.load(backbone, config=TINY, policy="confidence") as solver:
        answers = solver.solve(prompts)
    assert [row["resps"][0][0] for row in rows] == [a.text.split(";")[0] for a in answers]
    right = [a.extracted == row["doc"]["target"] for a, row in zip(answers, rows, strict=True)]
    assert 0 < sum(right) < len(right) == 8
    score = found["results"]["reoac_countdown"]["exact_match,last"]
    assert score == pytest.approx(np.mean(right))
    assert found["config"]["policy"] == "confidence" and found["config"]["config_hash"]


@with_harness
def test_a_text_does_not_depend_on_the_others(drawing):
    prompts = ["8 14 15 = 2 ?", "3 7 12 = 33 ?", "1 2 3 = 6 ?", "25 1 2 = 13 ?", "3 11 12 = 3 ?"]
    texts = drawing.generate_until(requests(*prompts))
    assert drawing.generate_until(requests(*reversed(prompts))) == texts[::-1]
    assert drawing.generate_until(requests(prompts[3])) == texts[3:4]
    # A task that asks the same several times wants several answers.
    again = drawing.generate_until(requests(*prompts[:1] * 4))
    assert again[0] == texts[0] and len(set(again)) > 1


@with_harness
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_gen_toks": 21}, "max_gen_toks=20"),
        ({"max_new_tokens": 8}, "max_gen_toks=20"),
        ({"do_sample": True, "temperature": 0.7}, "rollout.sample_strategy"),
        ({"top_p": 0.9}, "top_p"),
    ],
)
def test_what_a_row_cannot_be_is_refused(drawing, settings, expected):
    with pytest.raises(InputError, match=expected) as refused:
        drawing.generate_until(requests("8 14 15 = 2 ?", **settings))
    assert "\n" not in str(refused.value)


@with_harness
def test_what_the_model_does_not_do_is_refused(drawing, backbone):
    from reoac_jax.solver.harness import HarnessModel

    for asked in (drawing.loglikelihood, drawing.loglikelihood_rolling):
        with pytest.raises(InputError, match="only a bound"):
            asked([])
    with pytest.raises(InputError, match=r"17 tokens; expected 1 to 16 \(rollout.max_prompt_len"):
        drawing.generate_until(requests("1 " * 17))
    with pytest.raises(InputError, match="task.prompt"):
        drawing.apply_chat_template([{"role": "user", "content": "1 2 3 = 6 ?"}])
    with pytest.raises(InputError, match="evaluation.batch_size"):
        HarnessModel(TINY, str(backbone), "confidence", batch_size="auto")
    with pytest.raises(InputError, match="max_step"):
        HarnessModel(TINY, str(backbone), "confidence", **{"rollout.max_step": 3})


WORD_PROBLEM = {
    "question": "Ann has 3 apples and buys 4. How many has she?",
    "answer": "She has 3 + 4 = <<3+4=7>>7 apples.\n#### 7",
}
BOXED_PROBLEM = {
    "problem": "What is $\\frac{1}{2} + \\frac{1}{4}$?",
    "solution": "The sum is $\\boxed{\\frac{3}{4}}$.",
}
OFFICIAL = {
    # Name: its folder, row, right text, wrong text, beginning of the prompt, scores to look at.
    "gsm8k": (
        "gsm8k", WORD_PROBLEM, "3 + 4 = 7\n#### 7", "#### 8", "Question: Ann has",
        ("exact_match,strict-match", "exact_match,flexible-extract"),
    ),
    "minerva_math_algebra": (
        "minerva_math", BOXED_PROBLEM,
        "Final Answer: The final answer is $\\frac34$. I hope it is correct.",
        "Final Answer: The final answer is $\\frac14$. I hope it is correct.",
        "Problem:\nWhat is $", ("exact_match,none", "math_verify,none"),
    ),
}  # fmt: skip


@with_harness
@pytest.mark.parametrize("name", OFFICIAL)
def test_the_harness_own_tasks_ask_and_grade(name, drawing, tmp_path, monkeypatch):
    """Its prompts and its grading, over two rows; the texts are given, as no small model has them.

    The texts end as a model's would that goes on with a next question.
    """
    if name.startswith("minerva"):
        pytest.importorskip("antlr4")
    import lm_eval.tasks

    folder, row, right, wrong, prompt, scores = OFFICIAL[name]
    published = Path(lm_eval.tasks.__file__).parent / folder / f"{name}.yaml"
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(row)}\n" * 2, encoding="utf-8")
    asked = []

    def solve(prompts, **options):
        asked.extend(prompts)
        texts = [f"{text}\n\nQuestion: Problem: " for text in (right, wrong)]
        return [Answer(p, t, None, (), 1, 1, None) for p, t in zip(prompts, texts, strict=True)]

    monkeypatch.setattr(drawing._solver, "solve", solve)
    (tmp_path / "local.yaml").write_text(
        f"include: {published}\ntask: {name}_local\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs: {{data_files: {{train: {file}, test: {file}}}}}\n",
        encoding="utf-8",
    )
    found = simple_evaluate(drawing, f"{name}_local", tmp_path, num_fewshot=0)
    assert len(asked) == 2 and all(text.startswith(prompt) for text in asked)
    (results,) = found["results"].values()
    assert [results[score] for score in scores] == [0.5, 0.5]
    (rows,) = found["samples"].values()
    assert not any("Question" in row["resps"][0][0] and name == "gsm8k" for row in rows)


@with_harness
def test_a_conversation_is_written_in_the_template_of_the_tokenizer(tmp_path):
    from reoac_jax.solver.harness import HarnessModel

    chat = ROOT / "data" / "tiny_chat_tokenizer"
    folder = toy.word_backbone(tmp_path / "backbone")
    overrides = {
        "task.prompt": "chat",
        "backbone.tokenizer_source": "mdlm",
        "backbone.tokenizer_path": chat,
    }
    model = HarnessModel(TINY, str(folder), "confidence", **overrides)
    turns = [{"role": "user", "content": "1 2 3 = 6 ?"}]
    written = model.apply_chat_template(turns)
    assert "1 2 3 = 6 ?" in written and written != "1 2 3 = 6 ?"
    begun = [*turns, {"role": "assistant", "content": "1 + 2"}]
    assert model.apply_chat_template(begun, add_generation_prompt=False).endswith("1 + 2")
    assert model.chat_template() and str(chat) in model.tokenizer_name


@with_harness
def test_command_line(backbone, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = f"config={TINY},checkpoint={backbone},policy='threshold:threshold=0.9,block_len=4'"
    argv = ["--model_args", arguments, "--tasks", "reoac_countdown", "--include_path", str(TASKS)]
    assert run_command(command.main, [*argv, "--output_path", str(tmp_path)]) == 0
    assert "|reoac_countdown|" in capsys.readouterr().out
    assert list(tmp_path.rglob("results_*.json"))

    assert run_command(command.main, [*argv, "--gen_kwargs", "max_gen_toks=99"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the task asks for 99 tokens")


def test_without_the_harness_the_command_says_what_to_install(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "reoac_jax.solver.harness", raising=False)
    assert run_command(command.main, ["ls", "tasks"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1
    assert 'pip install "reoac-jax[lm-eval]"' in shown
    assert run_command(command.main, ["--help"]) == 0
    assert "python -m reoac_jax.lm_eval" in capsys.readouterr().out
