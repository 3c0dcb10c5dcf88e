"""What heads are told of a text's notation: against the tasks' own graders and an independent
reading by `tasks/equations.py`, on random rows of two tokenizers."""

import dataclasses
import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from support import toy

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.config import load_config
from reoac_jax.policy.given import read_prompt
from reoac_jax.policy.notation import NOTATION_FEATURES, notation_features
from reoac_jax.policy.vocabulary import build_vocabulary
from reoac_jax.rollout import Request, backbone_denoiser, rollout
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import make_task
from reoac_jax.tasks.decode import generated_text, prompt_text
from reoac_jax.tasks.equation_notation import EquationNotation, Kind
from reoac_jax.tasks.equations import annotations, equation_holds, evaluate
from reoac_jax.tasks.families.arithmetic import Arithmetic
from reoac_jax.tasks.families.countdown import Countdown
from reoac_jax.tasks.families.gsm8k import Gsm8k, styled_answer
from reoac_jax.tasks.problem_set import ProblemSet
from reoac_jax.tasks.tokenizer import read_tokenizer

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny.py")
# Compiled quickly: what is compared here does not depend on how.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
WORDS, WORD_MASK = 1200, 1199
BATCH = 1500


@functools.cache
def tables(place, size):
    tokenizer = read_tokenizer(str(place))
    return tokenizer, build_vocabulary(tokenizer, size, size - 1, symbols=True)


def bundled():
    return tables(ROOT / "data" / "tiny_mdlm", WORDS)


@functools.partial(jax.jit, static_argnums=5, compiler_options=QUICKLY)
def program(prompts, lengths, tokens, filled, symbols, notation):
    def row(prompt, length, tokens, filled):
        given = read_prompt(prompt, length, symbols, notation)
        return notation_features(tokens, filled, given, symbols, notation)

    return jax.vmap(row)(prompts, lengths, tokens, filled)


def padded(rows, width, fill=0):
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows], np.int32)


def read(task, world, prompts, tokens, filled=None, width=16, fill=0, batch=BATCH):
    """Features by name, `[B]` each; prompts: token ids of any lengths, padded with `fill`.

    One program serves all batches up to `batch`.
    """
    _, vocabulary = world
    filled = tokens if filled is None else filled
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    rows = np.resize(np.arange(len(prompts)), batch)
    arguments = (x[rows] for x in (padded(prompts, width, fill), lengths, tokens, filled))
    values = np.asarray(program(*arguments, vocabulary.symbols, task.notation))
    return dict(zip(NOTATION_FEATURES, values[: len(prompts)].T, strict=True))


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def texts_of(world, rows):
    tokenizer, vocabulary = world
    return [generated_text(row, tokenizer, vocabulary.is_special) for row in rows]


def corrupted(rng, rows, like, share):
    """The rows with up to two tokens replaced by some of `like`, and some cut off at the end."""
    rows = rows.copy()
    for row in rows:
        for place in rng.integers(0, rows.shape[1], rng.integers(0, 3)):
            row[place] = rng.choice(like)
        if rng.random() < share:
            row[rng.integers(0, rows.shape[1]) :] = 0
    return rows


def countdown_rows(count, numbers, seed=0):
    """Problems and rows: their references, corrupted, or those of other problems."""
    task = make_task(
        ConfigDict(
            dict(
                name="countdown", numbers=numbers, most_numbers=0, max_number=12, backwards=False,
                max_intermediate=60, ordered=False, train_part="all", seed=seed, train_size=count,
                test_size=1, dev_size=0,
            )
        ),
        ConfigDict({}),
    )  # fmt: skip
    world, rng = bundled(), np.random.default_rng(seed)
    problems = task.problems("train")
    tokenizer = world[0]
    rows = padded([ids(tokenizer, task.reference_text(p)) for p in problems], 20)
    like = ids(tokenizer, "+ - * / = , ; 1 2 3 4 5 6 7 8 9 10 11 12 apples ? <<") + [0, 1]
    rows = corrupted(rng, rows, like, 0.1)
    swapped = rng.random(count) < 0.1
    rows[swapped] = rows[rng.permutation(count)][swapped]
    return task, problems, rows


@pytest.mark.parametrize("numbers", [3, 4])
def test_countdown_checks_as_its_grader_does(numbers):
    task, problems, rows = countdown_rows(1500, numbers)
    world = bundled()
    prompts = [ids(world[0], problem.prompt) for problem in problems]
    found = read(Countdown, world, prompts, rows)
    texts = texts_of(world, rows)
    right = [grade.correct for grade in task.grade(texts, problems)]
    np.testing.assert_array_equal(found["filled_checks"], right)
    checked = [Countdown.checks(p.prompt, t) for p, t in zip(problems, texts, strict=True)]
    np.testing.assert_array_equal(found["written_checks"], checked)
    assert 0.15 < np.mean(right) < 0.7

    for row, (text, problem) in enumerate(zip(texts, problems, strict=True)):
        parts = text.removesuffix(";").split(",")
        parts = [part for part in parts if part.strip()]
        if ";" in "".join(parts):
            continue  # behind the end nothing is read
        holds = [is_binary(part) and equation_holds(part) for part in parts]
        share = np.mean(holds) if holds else 0.0
        np.testing.assert_allclose(found["filled_true_share"][row], share, atol=1e-6, err_msg=text)
        assert found["filled_has_false"][row] == (not all(holds)), text
        if parts and is_binary(parts[-1]):
            reached = evaluate(parts[-1].split("=")[1]) == int(problem.target_answer)
            assert found["filled_reaches"][row] == reached, text
    assert 0.3 < found["filled_known_share"].mean() < 1


def is_binary(part):
    """Whether a part is `a + b = c`, as the grader asks for."""
    number = r"-?\s?[0-9]+"
    form = rf"\s*{number}\s*[-+*/]\s*{number}\s*=\s*{number}\s*"
    return re.fullmatch(form, part) is not None


def test_each_number_counts_once():
    world = bundled()
    prompt, rows = "3 7 7 12 = 33 ?", [
        "7 * 3 = 21 , 21 + 12 = 33 ;", "7 * 3 = 21 , 21 + 7 = 28 ;", "7 + 7 = 14 , 14 + 7 = 21 ;",
        "21 + 3 = 24 , 7 * 3 = 21 ;",
    ]  # fmt: skip
    tokens = padded([ids(world[0], row) for row in rows], 20)
    found = read(Countdown, world, [ids(world[0], prompt)] * len(rows), tokens)
    np.testing.assert_allclose(found["filled_known_share"], [1.0, 1.0, 0.75, 0.5])
    np.testing.assert_allclose(found["filled_given_used"], [0.75, 0.75, 0.5, 0.5])
    np.testing.assert_allclose(found["filled_equations"], 2 / 3)


def test_a_masked_row_says_what_is_written():
    world = bundled()
    rows = [
        "7 * 3 = 21 , _ + 12 = 33 ;", "7 * 3 = 22 , _ _ _ _ _ _", "_ _ _ _ _ _ _ _",
        "7 * _ = 21 , 21 + 12 = 33", "7 * 3 = 21 _ 21 + 12 = 33 ;",
    ]  # fmt: skip
    tokens = padded(
        [[WORD_MASK if w == "_" else ids(world[0], w)[0] for w in row.split()] for row in rows],
        20, WORD_MASK,
    )  # fmt: skip
    whole = padded([ids(world[0], "7 * 3 = 21 , 21 + 12 = 33 ;")] * len(rows), 20)
    found = read(Countdown, world, [ids(world[0], "3 7 12 = 33 ?")] * len(rows), tokens, whole)
    np.testing.assert_allclose(found["written_equations"], [0.5, 0.5, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found["written_true_share"], [0.5, 0, 0, 0, 0])
    np.testing.assert_allclose(found["written_has_false"], [0, 1, 0, 0, 0])
    assert not found["written_checks"].any() and found["filled_checks"].all()


def test_rows_do_not_see_each_other_nor_padding():
    _, problems, rows = countdown_rows(1500, 3)
    world = bundled()
    prompts = [ids(world[0], problem.prompt) for problem in problems]
    together = read(Countdown, world, prompts, rows)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = read(Countdown, world, [prompts[i] for i in order], rows[order])
    apart = read(Countdown, world, prompts[:3], rows[:3], fill=7)
    for name, values in together.items():
        np.testing.assert_array_equal(values[order], shuffled[name])
        np.testing.assert_array_equal(values[:3], apart[name])


def annotated_rows(world, texts, width, like, seed=0):
    rng = np.random.default_rng(seed)
    rows = [row for text in texts if len(row := ids(world[0], text)) <= width]
    eos = world[0].eos_token_id
    return corrupted(rng, padded(rows, width, eos), like, 0.0)


def compare_annotated(task, world, prompts, rows, width, batch=BATCH):
    """With the graders of annotated equations, one text at a time."""
    found = read(task, world, prompts, rows, width=width, batch=batch)
    in_form = 0
    for row, text in enumerate(texts_of(world, rows)):
        written = annotations(text)
        holds = [equation_holds(equation) for equation in written]
        in_pairs = text.count("<<") == text.count(">>") == len(written)
        if in_pairs:
            share = np.mean(holds) if holds else 0.0
            np.testing.assert_allclose(
                found["filled_true_share"][row], share, atol=1e-6, err_msg=text
            )
            assert found["filled_has_false"][row] == (not all(holds)), text
        checks = task.checks("", text)
        assert checks >= found["filled_checks"][row], text
        answer = text.rpartition("####")[2].strip()
        if in_pairs and "####" in text and answer.isdecimal():
            in_form += 1
            assert found["filled_checks"][row] == checks, text
    assert in_form > len(rows) / 4
    return found


def test_annotated_equations_check_as_the_grader_does():
    task = make_task(
        load_config(str(ROOT / "configs" / "arithmetic.py"), ["--config.task.train_size=600"]).task,
        ConfigDict({}),
    )
    world, problems = bundled(), task.problems("train")
    like = ids(world[0], "+ - * / = << >> #### 1 2 3 4 5 6 7 8 9 10 12 24 apples .")
    rows = annotated_rows(world, map(task.reference_text, problems), 20, like)
    assert len(rows) == 600
    prompts = [ids(world[0], problem.prompt) for problem in problems]
    found = compare_annotated(Arithmetic, world, prompts, rows, 64)
    assert 0.2 < found["filled_checks"].mean() < 0.8
    # Numbers that the story gives, or that an equation reached, and others.
    assert 0.5 < found["filled_known_share"].mean() < 1
    assert 0.3 < found["filled_given_used"].mean() < 1


@pytest.mark.slow
def test_equations_over_several_tokens(shared_data):
    """GPT-2's: numbers and marks of two tokens, decimals, brackets, text between the equations; the
    published answers in full and in equations, with tokens replaced by others of the notation."""
    world = tables(shared_data / "gpt2", 50_258)
    lines = (shared_data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    texts = [styled_answer(x, "equations") if i % 2 else x for i, x in enumerate(answers)]
    like = [i for text in (" 1", "25", "0", ".", "5", "=", "+", "-", "*", "/", "(", ")", "%", ",")
            for i in ids(world[0], text)]  # fmt: skip
    rows = annotated_rows(world, texts, 128, like)[:100]
    prompts = [ids(world[0], "Tom has 1,250 apples, 3.5 pears and 12.")] * len(rows)
    found = compare_annotated(Gsm8k, world, prompts, rows, 32, 100)
    assert 0.2 < found["filled_checks"].mean() < 0.9
    exactly = ["<<1250/2=625>> <<.5*(12-3.5)=4.25>> <<-3+5%=-2.95>> #### -2.95", "<<3.50=7/2>> 7"]
    rows = padded([ids(world[0], text) for text in exactly], 128, world[0].eos_token_id)
    found = read(Gsm8k, world, prompts[:2], rows, width=32, batch=100)
    for name, values in (
        ("true_share", (1, 1)), ("checks", (1, 0)), ("known_share", (3 / 7, 1)),
        ("given_used", (1, 1 / 3)), ("reaches", (1, 0)),
    ):  # fmt: skip
        np.testing.assert_allclose(found[f"filled_{name}"], values, atol=1e-6, err_msg=name)


def test_numbers_of_a_prompt():
    world = bundled()
    symbols = world[1].symbols
    prompts = ["1 2 3 = 6 ? 1 + 2 = 3 , 3 + 3 = 6 ; 3 7 12 = 33 ?", "3 7 12 = 33", "5 = 5 ?"]
    asked, targets = [], []
    for prompt in prompts:
        tokens = ids(world[0], prompt)
        given = jax.jit(read_prompt, static_argnums=3, compiler_options=QUICKLY)(
            padded([tokens], 32)[0], len(tokens), symbols, Countdown.notation
        )
        asked.append((bool(given.asked), int(given.there.sum())))
        targets.append(int(given.target.num[0]))
    assert asked == [(True, 3), (False, 0), (False, 0)] and targets[0] == 33
    assert prompt_text(np.array(ids(world[0], prompts[1])), world[0]) == prompts[1]


def test_what_tokens_hold():
    world = bundled()
    symbols = world[1].symbols
    kinds = {text: symbols.kind[ids(world[0], text)[0], 0] for text in ("<<", ">>", "####", "12")}
    assert kinds == {"<<": Kind.BEGIN, ">>": Kind.END, "####": Kind.HASH, "12": Kind.DIGITS}
    assert symbols.kind[WORD_MASK, 0] == Kind.HOLE and symbols.kind[0, 0] == Kind.STOP
    assert symbols.kind[1, 0] == Kind.NOTHING and symbols.spaced[ids(world[0], "12")[0], 0]
    assert build_vocabulary(world[0], WORDS, WORD_MASK).symbols is None


def test_a_task_without_notation_is_refused():
    with pytest.raises(InputError, match="features.notation is True, but .* math .*countdown"):
        load_config(str(ROOT / "configs" / "math.py"), ["--config.features.notation=True"])
    backwards = ["--config.features.notation=True", "--config.task.backwards=True"]
    with pytest.raises(InputError, match="task.backwards True; expected one of them False"):
        load_config(str(ROOT / "configs" / "mixed.py"), backwards)


def test_no_reference_is_read():
    """A problem's prompt is all that a rollout is asked with."""
    task, problems, _ = countdown_rows(30, 3)
    config, (tokenizer, _) = load_config(TINY), bundled()
    whole = ProblemSet.load(_Listed(task, problems), "train", tokenizer, config)
    answers = [dataclasses.replace(p, target_answer="5", metadata=problems[0].metadata)
               for p in problems]  # fmt: skip
    blind = ProblemSet.load(_Listed(task, answers), "train", tokenizer, config)
    assert not np.array_equal(whole.encoded.reference, blind.encoded.reference)
    for index in range(30):
        pair = [Request.of(one, index, index) for one in (whole, blind)]
        jax.tree.map(np.testing.assert_array_equal, *pair)


class _Listed:
    """A task of these problems."""

    def __init__(self, task, problems):
        self.problems = lambda split: problems
        self.reference_text = task.reference_text


def test_a_rollout_sees_the_row_and_its_proposals():
    """In the toy world, whose sentences are no equations but for chance: at each step what the
    function says of the row before it and of what was then proposed."""
    settings = toy.rollout_settings(
        notation=EquationNotation(annotated=False, states_target=False), rows=True,
        use_hidden=False, draw=DrawSettings("argmax", 1.0),
    )  # fmt: skip
    vocabulary = build_vocabulary(toy.tokenizer(), toy.VOCAB_SIZE, toy.MASK_ID, symbols=True)
    model, params = toy.backbone(3, blocks=1)
    modules, heads = toy.heads(settings, 4)
    prompts = toy.prompts(6)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(variables, heads, prompts, vocabulary):
        denoise = backbone_denoiser(model, variables, settings)
        apply = functools.partial(modules.apply, heads)
        return rollout(denoise, apply, prompts, vocabulary, settings)[0]

    steps = jax.device_get(run({"params": params}, heads, prompts, vocabulary)).steps
    seen, active = steps.observation.notation, steps.active
    assert seen.shape == (settings.max_steps, 6, len(NOTATION_FEATURES))
    which = np.nonzero(active)
    wanted = program(
        np.asarray(prompts.tokens)[which[1]], np.asarray(prompts.lengths)[which[1]],
        steps.tokens[which], steps.observation.rows.token[which], vocabulary.symbols,
        settings.notation,
    )  # fmt: skip
    np.testing.assert_array_equal(seen[which], wanted)
    assert not seen[~active].any() and seen[which].any()
