"""Policies by name: what a name may say, one program for a swept number, what is counted."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from support import toy

from reoac_jax import evaluate, solve
from reoac_jax.config import load_config
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import (
    POLICIES,
    Policy,
    Surroundings,
    heads_of,
    parse_policy,
)
from reoac_jax.evaluation.scoring import evaluate_policy, scores
from reoac_jax.learning.parts import load_parts, untrained
from reoac_jax.rollout import Request, RolloutSettings, in_order
from reoac_jax.samplers import SAMPLERS
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.tasks import make_task
from reoac_jax.tasks.problem_set import ProblemSet

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny.py")
PROBLEMS = 6


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    folder = toy.word_backbone(tmp_path_factory.mktemp("policies") / "backbone", scale=0.4)
    return [
        f"--config.backbone.path={folder}", "--config.rollout.max_steps=4",
        "--config.rollout.gen_len=8", f"--config.task.test_size={PROBLEMS}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def loaded(overrides):
    config = load_config(TINY, overrides)
    parts = load_parts(config)
    task = make_task(config.task, config.grader)
    yield config, parts, task, ProblemSet.load(task, "test", parts.tokenizer, config, PROBLEMS)
    task.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("confidense", "did you mean 'confidence'"),
        ("actor:selection=best", "one of configured, argmax, sample"),
        ("actor:slection=argmax", "did you mean 'selection'"),
        ("random_operator:seed=1", "it has no parameters"),
        ("O_FAST:scop_len=3", "did you mean 'scope_len'"),
        ("O_FAST:scope_len=0", "scope_len"),
        ("O_FAST,O_FASTER", "did you mean 'O_FAST'"),
        ("help me", "expected actor"),
        ("check_and_rewrite:passes=0", "an integer from 1 to 4096"),
        ("check_and_rewrite:sampler=thresold", "did you mean 'threshold'"),
        ("check_and_rewrite:sampler=threshold:threshold=2", "a number from 0.0 to 1.0"),
    ],
)
def test_a_wrong_name_is_one_line(text, message):
    with pytest.raises(InputError, match=message) as refused:
        parse_policy(text)
    assert "\n" not in str(refused.value) and "--policy" in str(refused.value)


@pytest.mark.parametrize("text", [*POLICIES, "O_FAST:scope_len=3", "O_FAST,O_SCOPE,O_FAST",
                                  "threshold:threshold=0.5", "actor:selection=sample",
                                  "check_and_rewrite:passes=9,sampler=klass"])  # fmt: skip
def test_a_name_is_written_as_it_is_read(text):
    policy = parse_policy(text)
    assert str(policy) == text and parse_policy(str(policy)) == policy


def test_the_sampler_inside_takes_what_is_not_the_policy_s_own():
    wanted = parse_policy("check_and_rewrite:passes=9,sampler=threshold:block_len=0,threshold=0.5")
    for text in (
        "check_and_rewrite:sampler=threshold:block_len=0,threshold=0.5,passes=9",
        "check_and_rewrite:sampler=threshold,threshold=0.5,passes=9,block_len=0",
    ):
        assert parse_policy(text) == wanted


def test_whose_heads_a_policy_reads():
    assert heads_of("actor:selection=argmax") == "trained"
    assert heads_of("untrained_actor") == "untrained"
    assert {heads_of(name) for name in (*SAMPLERS, "random_operator", "O_FAST,O_NUM")} == {None}


@pytest.mark.parametrize("command", [evaluate.main, solve.main])
def test_help_lists_every_policy_and_its_parameters(command, capsys):
    with pytest.raises(SystemExit) as left:
        command(["--policy", "help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"  {name}: " in printed for name in POLICIES)
    assert "threshold=0.9  confidence that reveals (a number from 0.0 to 1.0)" in printed


def one_device():
    """The backbone's parameters lie on one of the tests' devices."""
    return sharding.make_mesh(jax.devices()[:1])


def run(policy: Policy, loaded):
    config, parts, _, problems = loaded
    requests = [Request.of(problems, i, i) for i in range(PROBLEMS)]
    return in_order(policy(parts.base, None, jax.random.key(0), requests))


def test_a_bias_is_for_an_actor_over_positions(loaded):
    config, parts, *_ = loaded
    with pytest.raises(InputError, match="the actor chooses operators.*heads.policy=positions"):
        Policy("actor:logit_bias=1", config, parts, one_device())


def test_rows_end_early_only_where_masks_are_left(overrides, loaded):
    _, parts, *_ = loaded
    rewriting = load_config(TINY, [*overrides, "--config.rollout.update_rule=overwrite"])
    with pytest.raises(InputError, match="stop_value=0.5.*rollout.update_rule=denoise"):
        Policy("actor:stop_value=0.5", rewriting, parts, one_device())


@pytest.mark.parametrize(
    ("override", "policy", "message"),
    [
        ("rollout.update_rule=overwrite", "remask_value=0.5", "rollout.update_rule=denoise"),
        ("rollout.branch_k=2", "remask_value=0.5", "no look-ahead"),
    ],
)
def test_where_rows_cannot_be_masked_again(override, policy, message, overrides, loaded):
    _, parts, *_ = loaded
    branch = "--config.evaluation.branch=True"
    config = load_config(TINY, [*overrides, branch, f"--config.{override}"])
    with pytest.raises(InputError, match=f"expected .*{message}"):
        Policy(f"actor:{policy}", config, parts, one_device())


def test_a_backbone_that_sees_the_schedule_knows_one_attempt(loaded, monkeypatch):
    config, parts, *_ = loaded
    monkeypatch.setattr(RolloutSettings, "sees_step", property(lambda settings: True))
    with pytest.raises(InputError, match="expected no remask_value.*rollout.sigma=masked_share"):
        Policy("actor:remask_value=0.5", config, parts, one_device())


@pytest.mark.slow
def test_a_row_that_is_worth_too_little_is_written_again_and_the_best_attempt_kept(loaded):
    """Where nothing is enough, as often as passes allow; where everything is, as the actor does."""
    config, parts, _, problems = loaded
    requests = [Request.of(problems, i, i) for i in range(PROBLEMS)]
    heads = untrained(config, parts).heads
    steps = config.rollout.max_steps

    def outcome(policy):
        runner = Policy(policy, config, parts, one_device())
        return in_order(runner(parts.base, heads, jax.random.key(0), requests))

    plain = outcome("actor")
    never = outcome(f"actor:remask_value=-99,passes={3 * steps}")
    jax.tree.map(np.testing.assert_array_equal, never.tokens, plain.tokens)
    np.testing.assert_array_equal(never.steps, plain.steps)
    always = outcome(f"actor:remask_value=2,remask_share=1.0,passes={3 * steps}")
    assert (always.steps > plain.steps.max()).all() and (always.steps <= 3 * steps).all()
    assert (always.tokens != parts.model.spec.mask_id).all()
    assert (always.tokens != plain.tokens).any()


@pytest.mark.slow
def test_a_row_that_is_worth_enough_ends(loaded):
    """Each in its first pass where everything is enough."""
    config, parts, _, problems = loaded
    requests = [Request.of(problems, i, i) for i in range(PROBLEMS)]
    heads = untrained(config, parts).heads
    policy = Policy("actor:stop_value=-100", config, parts, one_device())
    ended = in_order(policy(parts.base, heads, jax.random.key(0), requests))
    assert (ended.forward_passes == 1).all() and (ended.steps == 1).all()
    assert (ended.tokens != parts.model.spec.mask_id).all()


@pytest.mark.slow
def test_a_swept_number_runs_through_one_program(loaded):
    config, parts, *_ = loaded
    mesh = one_device()
    policy = Policy("threshold:threshold=0.9,block_len=0", config, parts, mesh)
    passes = []
    for threshold in (0.9, 0.5, 0.2):
        name = f"threshold:threshold={threshold},block_len=0"
        swept = policy.with_numbers(name)
        outcome = run(swept, loaded)
        passes.append(outcome.forward_passes.mean())
        alone = run(Policy(name, config, parts, mesh), loaded)
        jax.tree.map(np.testing.assert_array_equal, outcome, alone)
    assert passes[0] > passes[1] > passes[2]
    compiled = [policy._program._run(group.slots) for group in policy._program._groups(
        [Request.of(loaded[3], i, i) for i in range(PROBLEMS)])]  # fmt: skip
    assert {program._cache_size() for program in compiled} == {1}
    for other in ("threshold:block_len=4", "factor:block_len=0", "actor"):
        with pytest.raises(ValueError, match="differ|both"):
            policy.with_numbers(other)


def test_what_is_counted(loaded):
    """Passes by row, the tokens computed, and the share of what is written behind the first eos."""
    config, parts, task, problems = loaded
    evaluation = evaluate_policy(
        "threshold:threshold=0.5", config, parts, parts.base, None, task, problems
    )
    result = scores(evaluation)
    passes, tokens = evaluation.outcome.forward_passes, evaluation.outcome.tokens
    assert result["forward_passes"] == passes.mean() and result["forward_passes_max"] == max(passes)
    assert result["forward_passes_median"] == np.median(passes) and len(set(passes.tolist())) > 1
    assert result["tokens_computed"] >= passes.sum() * (8 + 1)
    ends = parts.tokenizer.eos_token_id
    padding = [
        len(row) - row.index(ends) if ends in row else 0 for row in (t.tolist() for t in tokens)
    ]
    assert result["padding_share"] == pytest.approx(sum(padding) / tokens.size)
    # Of the sampler, not of the configuration.
    assert result["max_steps"] == tokens.shape[1] != config.rollout.max_steps


def test_a_cache_is_refused_where_it_cannot_be(loaded, overrides):
    """By MDLM, which has none; where operators decide; and where weights lie in parts."""
    _, parts, _, _ = loaded
    config = load_config(TINY, [*overrides, "--config.rollout.cache=prefix"])
    with pytest.raises(InputError, match="Backbone keeps no keys.*expected none"):
        Policy("threshold", config, parts, one_device())
    with pytest.raises(InputError, match="is for samplers; expected none"):
        Policy("O_FAST", config, parts, one_device())
    decoder = SimpleNamespace(model=SimpleNamespace(keeps_keys=True))
    where = Surroundings(config, decoder, one_device())
    settings = toy.rollout_settings(gen_len=8)
    assert where.in_blocks(settings, 4).windows == (4, 8)
    with pytest.raises(InputError, match="sharding.fsdp True"):
        where.in_blocks(dataclasses.replace(settings, weights_in_parts=True), 4)


@pytest.mark.slow
def test_an_evaluation_with_weights_in_parts(loaded, overrides):
    """Read in parts, and never whole on a device but for a pass: the same answers."""
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    name = "threshold:threshold=0.5"
    config, parts, task, problems = loaded
    whole = evaluate_policy(name, config, parts, parts.base, None, task, problems)
    config = load_config(TINY, [*overrides, "--config.sharding.fsdp=True"])
    parts = load_parts(config)
    for x in jax.tree.leaves(parts.base):
        assert x.addressable_shards[0].data.size in (x.size, x.size // 4)
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(parts.base))
    assert held < 0.27 * sum(x.nbytes for x in jax.tree.leaves(parts.base))
    found = evaluate_policy(name, config, parts, parts.base, None, task, problems)
    assert found.texts == whole.texts
    np.testing.assert_array_equal(found.outcome.forward_passes, whole.outcome.forward_passes)


def test_a_sequence_of_operators_is_told_its_step(loaded):
    """O_NUM selects nothing of these rows and the fallback acts; the sequence acts as written."""
    config, parts, *_ = loaded
    names = list(config.operators.names)
    sequence = ["O_SCOPE", "O_FAST", "O_SCOPE", "O_FAST"]
    outcome = run(Policy(",".join(sequence), config, parts, one_device()), loaded)
    for row in outcome.operators:
        acted = [names[operator] for operator in row if operator >= 0]
        assert acted == sequence[: len(acted)]
    with pytest.raises(InputError, match="as many as rollout.max_steps, 4"):
        Policy("O_SCOPE,O_FAST", config, parts, one_device())


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy",
    ["O_SCOPE,O_FAST,O_SCOPE,O_FAST", "O_FAST:scope_len=2", "klass:threshold=0.1,stable=1"],
)  # fmt: skip
def test_every_command_takes_it(policy, overrides, tmp_path, capsys):
    output = tmp_path / "evaluation.json"
    argv = ["--config", TINY, *overrides, "--policy", policy, "--output", str(output)]
    assert run_command(evaluate.main, argv) == 0
    result = json.loads(output.read_text())
    assert parse_policy(result["policy"]) == parse_policy(policy)
    assert 0 < result["forward_passes"] <= 8
    argv = ["--config", TINY, *overrides, "--policy", policy, "8 14 15 = 2 ?"]
    assert run_command(solve.main, argv) == 0
    assert "forward passes" in capsys.readouterr().out


@pytest.mark.slow
def test_an_operator_s_parameters_replace_those_of_the_configuration(loaded):
    config, parts, *_ = loaded
    narrow = run(Policy("O_FAST:scope_len=1", config, parts, one_device()), loaded)
    wide = run(Policy("O_FAST", config, parts, one_device()), loaded)
    assert (narrow.steps == 4).all() and wide.steps.mean() < 4  # 1 a step, and 3


@pytest.mark.slow
def test_the_sweep_stores_each_point_and_goes_on(overrides, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("sweep", ROOT / "scripts" / "sweep_samplers.py")
    sweep = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sweep)
    output = tmp_path / "points.jsonl"
    argv = ["--config", TINY, *overrides, "--output", str(output), "--split", "test"]
    argv += ["--policy", "threshold:block_len=0", "--sweep"]
    assert run_command(sweep.main, [*argv, "threshold=0.9,0.1"]) == 0
    assert run_command(sweep.main, [*argv, "threshold=0.1,0.9,0.4", "--policy", "dilated"]) == 0
    points = [json.loads(line) for line in output.read_text().splitlines()]
    assert [p["parameters"].get("threshold") for p in points] == [0.9, 0.1, 0.4, None]
    assert points[0]["forward_passes"] > points[1]["forward_passes"]
    for point in points:
        assert point["samples"] == len(point["correct_by_problem"]) == PROBLEMS
        assert np.mean(point["passes_by_problem"]) == point["forward_passes"]
    assert {point["max_steps"] for point in points} == {8}  # the policies' own: gen_len
    capsys.readouterr()
    for wrong, message in (
        (["threshold=2"], "0.0 to 1.0"), (["treshold=1"], "threshold"), (["threshold"], "VALUE"),
        (["threshold=1", "--sweep", "limit=true"], "follows no --policy"),
    ):  # fmt: skip
        assert run_command(sweep.main, [*argv, *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_check_and_rewrite_checks_rows_on_every_device(loaded, monkeypatch):
    """An untrained model solves nothing: its rows are the sampler's own. With a task's check that
    asks for a number in the text they stop where they hold one; and no reference is ever seen."""
    config, parts, task, problems = loaded
    name = "check_and_rewrite:passes=20,sampler=threshold:block_len=0"
    params, heads = parts.base, None
    own = evaluate_policy("threshold:block_len=0", config, parts, params, heads, task, problems)
    strict = evaluate_policy(name, config, parts, params, heads, task, problems)
    np.testing.assert_array_equal(strict.outcome.tokens, own.outcome.tokens)
    assert strict.outcome.forward_passes.max() <= 20
    asked = []

    def has_digit(cls, prompt, text):
        asked.append((prompt, text))
        return any(character.isdigit() for character in text)

    monkeypatch.setattr(type(task), "checks", classmethod(has_digit))
    lenient = evaluate_policy(name, config, parts, params, heads, task, problems)
    assert lenient.outcome.forward_passes.sum() == len(asked)
    assert {prompt for prompt, _ in asked} == {problem.prompt for problem in problems.problems}
    stopped = [any(c.isdigit() for c in text) for text in lenient.texts]
    assert any(stopped) and (lenient.outcome.forward_passes[np.array(stopped)] < 20).all()


def test_check_and_rewrite_needs_a_notation(overrides):
    parts = load_parts(load_config(TINY, overrides))
    config = load_config(ROOT / "configs" / "math.py", overrides[:1])
    with pytest.raises(InputError, match="answers of math cannot be checked.*countdown"):
        Policy("check_and_rewrite", config, parts, one_device())
