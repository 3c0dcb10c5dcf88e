"""Whatever rows, lengths, masks, settings and texts come: finite, in range, never a crash."""

import contextlib
import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ml_collections import ConfigDict
from support import toy

from reoac_jax.config import fixed_options, load_config, to_json, validate
from reoac_jax.policy.features import (
    EXTRA_FEATURES,
    FEATURES,
    alignment_features,
    extra_features,
    preview_features,
    preview_names,
    prompt_context,
)
from reoac_jax.policy.operators import OPERATOR_TYPES, View, select_positions
from reoac_jax.rollout import Prompts, RolloutSettings, backbone_denoiser, rollout
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import TASKS, Problem, make_task, task_options

PROMPT, GENERATED, BATCH, PLACES = 7, 8, 4, 3

tokens = functools.partial(hnp.arrays, np.int32, elements=st.integers(0, toy.VOCAB_SIZE - 1))
flags = functools.partial(hnp.arrays, np.bool_)
shares = functools.partial(
    hnp.arrays, np.float32, elements=st.floats(0, 1, width=32, allow_subnormal=False)
)
# As the configuration allows it; a few values, among them the ends.
temperatures = st.sampled_from(
    [fixed_options()["features.relation_temperature"].low, 0.01, 0.5, 1.0, 100.0]
)


# ---- Features


@jax.jit
def all_features(prompt, length, key_mask, row, previous, has_previous, entropy, temperature,
                 progress, masked, confidence, reveals, vocabulary):  # fmt: skip
    context = prompt_context(prompt, length, key_mask, vocabulary)
    return (
        alignment_features(context, row, previous, has_previous, entropy, vocabulary, temperature),
        extra_features(progress, masked, confidence, entropy, toy.VOCAB_SIZE),
        preview_features(reveals, confidence, ~masked, confidence),
    )


@pytest.mark.slow
@given(
    prompt=tokens(PROMPT), length=st.integers(1, PROMPT), key_mask=flags(PROMPT),
    row=tokens(GENERATED), previous=tokens(GENERATED), has_previous=st.booleans(),
    uncertainty=shares(GENERATED), temperature=temperatures, progress=st.floats(0, 1),
    masked=flags(GENERATED), confidence=shares(GENERATED),
    reveals=flags((len(toy.ORIGINAL), GENERATED)),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_features_of_any_row(uncertainty, **row):
    entropy = uncertainty * np.log(np.float32(toy.VOCAB_SIZE))
    alignment, extra, preview = all_features(entropy=entropy, vocabulary=toy.vocabulary(), **row)
    widest = dict.fromkeys((*FEATURES, *EXTRA_FEATURES, *preview_names(toy.ORIGINAL)), (0.0, 1.0))
    widest |= dict.fromkeys(("prompt_entropy_mean", "prompt_entropy_p90"), (0.0, math.log(PROMPT)))
    widest |= dict.fromkeys(("suspect_mean", "suspect_p90"), (0.0, 2.0))
    widest["written_log_confidence"] = (math.log(1e-6), 0.0)
    for (name, (low, high)), value in zip(
        widest.items(), np.concatenate([alignment, extra, preview]), strict=True
    ):
        assert low - 1e-5 <= value <= high + 1e-5, (name, value)


# ---- Configurations and operators

ROOT = Path(__file__).resolve().parents[2]
TINY = load_config(ROOT / "configs" / "tiny.py")
_SECTIONS = ("rollout.", "operators.", "features.", "reward.", "evaluation.")


def legal(option):
    """Any value that a key alone may hold; of a wide range also its ends."""
    if option.kind == "bool":
        return st.booleans()
    if option.choices is not None:
        return st.sampled_from(option.choices)
    if option.kind == "str":
        return st.sampled_from(toy.ORIGINAL)
    numbers = st.integers if option.kind in ("int", "ints") else st.floats
    one = st.one_of(numbers(option.low, option.high), st.sampled_from([option.low, option.low + 1]))
    return st.lists(one, max_size=4) if option.kind == "ints" else one


PARAMETERS = {
    f"operators.{name}.{key}": option
    for name, kind in OPERATOR_TYPES.items()
    for key, option in kind.parameters().items()
}
legal_values = st.fixed_dictionaries(
    {"operators.names": st.lists(st.sampled_from([*OPERATOR_TYPES]), max_size=4)},
    optional={
        key: legal(option)
        for key, option in {**fixed_options(), **PARAMETERS}.items()
        if key.startswith(_SECTIONS) and key != "operators.names"
    },
)


def settings_of(changes):
    """The rollout settings of the tiny configuration with some values changed; None: refused."""
    values = to_json(TINY)
    values["operators"] = {name: {} for name in changes["operators.names"]}
    for key, value in changes.items():
        *sections, last = key.split(".")
        if key in PARAMETERS and sections[-1] not in changes["operators.names"]:
            continue
        functools.reduce(dict.__getitem__, sections, values)[last] = value
    try:
        config = validate(values)
    except InputError as error:
        assert "expected" in str(error)
        return None
    return RolloutSettings.from_config(
        config, mask_id=toy.MASK_ID, pad_id=toy.EOS_ID, time_conditioned=False
    )


@given(
    changes=legal_values, written=tokens(GENERATED), frontier=flags(GENERATED),
    confidence=shares(GENERATED),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_operators_of_any_configuration_on_any_row(changes, written, frontier, confidence):
    found = settings_of(changes)
    if found is None:
        return
    assert hash(found) is not None  # a static argument of jit
    operators = found.operators
    assert all(math.isfinite(cost) and cost >= 0 for cost in found.costs)
    assert found.quotas.shape == (len(operators),) and (1 <= found.quotas).all()
    assert (found.quotas <= found.gen_len).all()
    vocabulary = toy.vocabulary()
    view = View(written, frontier, confidence, vocabulary, found.scope_anchor)
    selected = np.asarray(select_positions(view, operators))
    assert selected.shape == (len(operators), GENERATED) and selected.dtype == bool
    tables = {"O_NUM": vocabulary.has_digit, "O_OP": vocabulary.is_operator}
    for row, operator in zip(selected, operators, strict=True):
        if operator.name in tables:
            having = np.asarray(tables[operator.name])[written]
            assert row.sum() == min(having.sum(), operator.max_tokens)
            assert not (row & ~having).any()
        elif operator.name == "O_CONFIDENT":
            assert row.sum() == min(frontier.sum(), operator.max_tokens)
            least = confidence[row].min(initial=1.0)
            assert (confidence[frontier & ~row] <= least).all() and not (row & ~frontier).any()
        elif operator.name == "O_SHARE":
            assert bool(row.any()) == bool(frontier.any()) and not (row & ~frontier).any()
            left, last = np.flatnonzero(frontier & ~row), np.flatnonzero(row)
            assert not len(left) or left[0] > last[-1]  # in reading order
        else:
            size = 1 if operator.name == "O_NEXT" else operator.scope_len
            size, places = min(size, GENERATED), np.flatnonzero(row)
            assert 1 <= len(places) <= size and np.ptp(places) == len(places) - 1


# ---- The rollout

VARIANTS = {
    "denoise": toy.rollout_settings(
        gen_len=GENERATED, max_steps=9, repair_tokens=2, repair_threshold=0.9, branch=True,
        branch_steps=(0, 4), extra_features=True, operator_preview=True,
    ),
    "overwrite": toy.rollout_settings(
        gen_len=GENERATED, update_rule="overwrite", empty_operator="mask", use_hidden=False,
        selection_mode="argmax", branch=True, branch_k=4, time_conditioned=True,
    ),
}  # fmt: skip


@functools.cache
def compiled(name):
    """Parameters' scale, prompts -> what `rollout` gives, with random parameters; compiled once."""
    variant = VARIANTS[name]
    model, params = toy.backbone(3, blocks=1, time_conditioning=variant.time_conditioned)
    modules, head_params = toy.heads(variant, 4)

    @jax.jit
    def program(scale, prompts, vocabulary):
        scaled, scaled_heads = jax.tree.map(lambda x: scale * x, (params, head_params))
        denoise = backbone_denoiser(model, {"params": scaled}, variant)
        heads = functools.partial(modules.apply, scaled_heads)
        return rollout(denoise, heads, prompts, vocabulary, variant, PLACES)

    return program


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
@given(
    prompt=tokens((BATCH, PROMPT)),
    lengths=hnp.arrays(np.int32, BATCH, elements=st.integers(1, PROMPT)),
    key_mask=flags((BATCH, PROMPT)), region=tokens((BATCH, GENERATED)),
    blank=flags((BATCH, GENERATED)), seed=st.integers(0, 2**31 - 1),
    scale=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_rollout_of_any_prompts(name, prompt, lengths, key_mask, region, blank, seed, scale):
    variant = VARIANTS[name]
    region = np.where(blank, toy.MASK_ID, region)
    keys = jax.random.split(jax.random.key(seed), BATCH)
    prompts = Prompts(prompt, lengths, key_mask, keys, region)
    result = compiled(name)(jnp.float32(scale), prompts, toy.vocabulary())
    (steps, final), all_passes = jax.device_get(result)
    fixed = region != toy.MASK_ID
    np.testing.assert_array_equal(final[fixed], region[fixed])
    assert (final >= 0).all() and (final < toy.VOCAB_SIZE).all()
    if variant.update_rule == "denoise":
        assert not (final == toy.MASK_ID).any()
    for x in jax.tree.leaves(steps):
        assert np.isfinite(x).all()
    assert (steps.confidence >= 0).all() and (steps.confidence <= 1 + 1e-6).all()
    for chosen in (steps.operator, steps.chosen, steps.executed):
        assert (chosen >= 0).all() and (chosen < len(variant.operators)).all()
    active, dearest = steps.active, max(variant.costs)
    assert (steps.cost >= 0).all() and (steps.cost <= dearest).all()
    assert not steps.cost[~active].any()
    assert (active[:-1] >= active[1:]).all()  # a finished row stays finished
    passes = steps.forward_passes[active]
    assert (passes >= 0).all() and (passes <= 1 + variant.branch_k).all()
    assert 1 <= all_passes <= BATCH * variant.max_steps * (1 + variant.branch_k)


# ---- The graders

# What models write: the tasks' own signs in any order, and anything at all.
_PIECES = [
    "3", "7", "12", "33", "-5", "0", "1/0", "2/3", "1,000", "$4.50", "10%", "99999999999", ".5",
    " + ", " - ", " * ", " / ", " = ", " , ", " ;", "####", "<<3+4=7>>", "<<", ">>", "7 * 3 = 21",
    "21 + 12 = 33", "\\boxed{", "}", "{", "\\frac{1}{2}", "\\sqrt", "^", "_", "(", ")", "[", "]",
    "x", "\\text{a}", "$", "\\infty", "i", "\n", "[MASK]", "\u2212", "\u0663", "\0",
]  # fmt: skip
texts = st.one_of(
    st.text(max_size=60), st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)
)
TASK_OPTIONS = {
    "countdown": {key: TINY.task[key] for key in task_options("countdown")}
    | {"train_size": 3, "train_part": "all"},
    "arithmetic": {
        "steps": (1, 3), "max_number": 60, "distractors": 0.5, "train_size": 3, "dev_size": 3,
        "test_size": 3, "seed": 0,
    },
    "gsm8k": {
        "train_file": "none", "dev_file": "none", "dev_size": 0, "test_file": "none",
        "answer_style": "full",
    },
    "math": {"train_file": "none", "dev_size": 0, "test_file": "none"},
}  # fmt: skip
WRITTEN = {
    "gsm8k": Problem("gsm8k/0", "p", "1,033.50", "gsm8k", {"solution": "<<3+4=7>> #### 1,033.50"}),
    "math": Problem("math/0", "p", r"\frac{2}{3}", "math", {}),
}


@pytest.fixture(scope="module")
def grader():
    """Name -> a task and problems of it; a task's processes, if any, end with the tests."""

    @functools.cache
    def make(name):
        assert set(TASK_OPTIONS[name]) == set(task_options(name))
        options = ConfigDict({"name": name} | TASK_OPTIONS[name])
        task = make_task(options, ConfigDict({"workers": 1, "timeout": 2.0}))
        ending.callback(task.close)
        return task, [WRITTEN[name]] if name in WRITTEN else task.problems("train")

    with contextlib.ExitStack() as ending:
        yield make


def check_grades(task, known, written):
    problems = [known[i % len(known)] for i in range(len(written))]
    strict = task.grade(written, problems, "strict")
    shaped = task.grade(written, problems, "shaped")
    extracted = task.extract(written)
    assert len(strict) == len(shaped) == len(extracted) == len(written)
    for one, other in zip(strict, shaped, strict=True):
        assert one.correct is other.correct or one.failed or other.failed
        assert one.reward == float(one.correct)
        assert other.reward == 1.0 if other.correct else 0.0 <= other.reward < 1.0
        assert one.extracted is None or isinstance(one.extracted, str)
        assert isinstance(one.expected, str)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TASKS if name != "math"])
@given(written=st.lists(texts, min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_grades_of_any_texts(grader, name, written):
    check_grades(*grader(name), written)


@pytest.mark.slow
@given(written=st.lists(texts, min_size=1, max_size=12))
@settings(max_examples=8, deadline=None)  # some of these texts keep SymPy busy up to the limit
def test_grades_of_any_formulas(grader, written):
    check_grades(*grader("math"), written)
