"""A policy over positions through the commands: training, stopped and gone on with; evaluation,
on one device and on several; the report, the solver."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest
from support import toy
from support.small_run import (
    GEN_LEN,
    TINY,
    metrics,
    newest,
    samples,
    share_programs,
    signal_in_update,
    small_options,
    train_run,
)

from reoac_jax import evaluate, solve, train
from reoac_jax.config import load_config
from reoac_jax.devices import sharding
from reoac_jax.learning.parts import load_parts, untrained
from reoac_jax.report import __main__ as report
from reoac_jax.runs.checkpoints import read_item
from reoac_jax.system.errors import run_command

pytestmark = pytest.mark.slow
POSITIONS = [
    "--config.backbone.finetune_mode=frozen",
    "--config.heads.policy=positions",
    "--config.heads.positions.width=8",
    "--config.heads.positions.mlp_width=8",
    "--config.features.operator_preview=False",
    "--config.features.extra_features=True",
    "--config.reward.passes_exponent=1",
    "--config.rollout.branch_k=0",
    "--config.train.critic_steps=0",
    "--config.train.actor_steps=2",
    "--config.checkpoint.every=1",
]


@pytest.fixture(scope="module")
def run(backbone, tmp_path_factory):
    """A run that was stopped in its second iteration and gone on with; and one that was not."""
    options = [*small_options(backbone, tmp_path_factory.mktemp("positions")), *POSITIONS]
    with pytest.MonkeyPatch.context() as patch:
        share_programs(patch, {})
        whole = train_run(options)
        whole = shutil.move(whole, whole.parent.parent / "whole")
        signal_in_update(patch, 2, signal.SIGINT)
        assert run_command(train.main, ["--config", TINY, *options]) == 130
        stopped = newest(options)
        assert run_command(train.main, ["--resume", str(stopped)]) == 0
    return options, stopped, whole


def test_resumed_run_equals_an_uninterrupted_one(run):
    _, resumed, whole = run
    assert metrics(resumed) == metrics(whole) and len(metrics(whole)) == 3
    assert samples(resumed) == samples(whole)
    folders = [folder / "checkpoints" / "2" for folder in (resumed, whole)]
    for folder in folders:  # no critic is in it
        assert {path.name for path in folder.iterdir()} >= {"actor", "optimizers", "replay"}
        assert not (folder / "critic").exists()
    for item in ("actor", "optimizers", "replay"):
        one, other = (read_item(folder, item) for folder in folders)
        jax.tree.map(np.testing.assert_array_equal, one, other)


TOGETHER = [
    "--config.objective.backbone=trajectory",
    "--config.train.backbone_steps=2",
    "--config.train.iterations=2",
]


READING = [
    "--config.heads.reads=rows",
    "--config.heads.rows.width=8",
    "--config.heads.rows.layers=1",
    "--config.features.notation=True",
    "--config.heads.positions.start_order=numbers",
    "--config.heads.positions.start_decay=1",
    "--config.train.iterations=2",
]


def whole_and_stopped(argv, tmp_path, before_resuming=lambda: None):
    """A run that was not stopped; and one that was, in its second iteration, and gone on with."""
    with pytest.MonkeyPatch.context() as patch:
        share_programs(patch, {})
        whole = shutil.move(train_run(argv), tmp_path / "whole")
        signal_in_update(patch, 1, signal.SIGINT)
        assert run_command(train.main, ["--config", TINY, *argv]) == 130
        stopped = newest(argv)
        before_resuming()
        assert run_command(train.main, ["--resume", str(stopped)]) == 0
    return whole, stopped


def test_one_that_reads_rows_and_notation_goes_on_as_if_it_had_not_stopped(run, tmp_path):
    options, *_ = run
    argv = [*options, *READING, "--config.heads.rows.keep_bytes=0"]  # computed again
    whole, stopped = whole_and_stopped(argv, tmp_path)
    assert metrics(stopped) == metrics(whole) and len(metrics(whole)) == 2
    for item in ("actor", "statistics", "optimizers"):
        one, other = (read_item(folder / "checkpoints" / "1", item) for folder in (stopped, whole))
        jax.tree.map(np.testing.assert_array_equal, one, other)
    # What is computed again is what was kept: before anything is learned, the ratios are 1.
    assert metrics(whole)[0]["actor_kl"] < 1e-3
    output = tmp_path / "rows.json"
    argv = ["--config", TINY, *argv, "--checkpoint", str(whole / "checkpoints")]
    assert run_command(evaluate.main, [*argv, "--output", str(output)]) == 0
    assert json.loads(output.read_text())["forward_passes"] >= 1


@pytest.mark.parametrize(("mode", "trained"), [("full", "backbone"), ("lora", "backbone_lora")])
def test_actor_and_backbone_learn_together_from_the_heads_of_a_run(run, tmp_path, mode, trained):
    """Resumed, it equals one that was not stopped; the heads that it started from are not read
    again."""
    options, resumed, _ = run
    start = shutil.copytree(resumed, tmp_path / "start")
    argv = [*options, *TOGETHER, f"--config.backbone.finetune_mode={mode}"]
    argv.append(f"--config.heads.checkpoint={start}")
    whole, stopped = whole_and_stopped(argv, tmp_path, lambda: shutil.rmtree(start))
    assert metrics(stopped) == metrics(whole) and len(metrics(whole)) == 2
    assert {"actor_loss", "backbone_loss", "backbone_entropy"} <= metrics(whole)[0].keys()
    for item in ("actor", trained, "optimizers"):
        one, other = (read_item(folder / "checkpoints" / "1", item) for folder in (stopped, whole))
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_heads_of_another_backbone_are_where_training_starts(run, tmp_path):
    options, resumed, _ = run
    other = toy.word_backbone(tmp_path / "other", scale=0.3)
    argv = [*options, f"--config.backbone.path={other}"]
    argv += ["--config.train.actor_steps=0", "--config.train.iterations=1"]
    new = train_run([*argv, f"--config.heads.checkpoint={resumed}"])
    heads = (new / "checkpoints" / "0", resumed / "checkpoints" / "2")
    jax.tree.map(np.testing.assert_array_equal, *(read_item(path, "actor") for path in heads))
    config = load_config(TINY, [*argv, f"--config.heads.checkpoint={resumed}"])
    start = untrained(config, load_parts(config)).heads.actor
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(start), read_item(heads[1], "actor"))


def test_what_a_run_writes_down(run):
    _, resumed, _ = run
    line = metrics(resumed)[0]
    assert {"actor_loss", "actor_entropy", "written_per_step"} <= line.keys()
    assert not {"critic_loss", "explained_variance", "operator_shares"} & line.keys()
    assert 1 <= line["written_per_step"] <= GEN_LEN and line["forward_passes"] == line["steps"]
    sample = json.loads(next(iter(samples(resumed).values())))
    for step in sample["steps"]:
        assert step["operator"] == "positions" and len(step["probabilities"]) == GEN_LEN
        masked = np.flatnonzero(step["probabilities"])
        assert set(step["drawn"]) <= set(masked) and set(step["written"]) <= set(masked)


def test_evaluation_does_not_depend_on_batch_and_devices(run, tmp_path, monkeypatch):
    options, resumed, _ = run
    make_mesh, results = sharding.make_mesh, {}
    for size, devices, selection in ((7, 2, "sample"), (12, 1, "sample"), (12, 1, "argmax")):
        monkeypatch.setattr(sharding, "make_mesh", lambda n=devices: make_mesh(jax.devices()[:n]))
        output = tmp_path / f"{size}_{selection}.json"
        argv = ["--config", TINY, *options, f"--config.evaluation.batch_size={size}"]
        argv += ["--checkpoint", str(resumed / "checkpoints"), "--output", str(output)]
        argv += ["--policy", f"actor:selection={selection}"]
        assert run_command(evaluate.main, argv) == 0
        result = json.loads(output.read_text())
        assert result["operator_shares"] is None and 1 <= result["forward_passes"] <= 4
        results[size, selection] = output.with_suffix(".jsonl").read_text()
    assert results[7, "sample"] == results[12, "sample"] != results[12, "argmax"]


@pytest.mark.parametrize(("bias", "passes"), [(50, 1), (-50, 4)])
def test_a_bias_makes_the_same_actor_quicker_or_slower(run, tmp_path, bias, passes):
    """All positions at once; one a pass, and in the last of four all that is left."""
    options, resumed, _ = run
    output = tmp_path / "biased.json"
    argv = ["--config", TINY, *options, "--checkpoint", str(resumed / "checkpoints")]
    argv += ["--policy", f"actor:selection=argmax,logit_bias={bias}", "--output", str(output)]
    assert run_command(evaluate.main, argv) == 0
    assert json.loads(output.read_text())["forward_passes"] == passes


def test_operators_can_be_evaluated_beside_it(run, tmp_path):
    options, *_ = run
    output = tmp_path / "operator.json"
    argv = ["--config", TINY, *options, "--policy", "O_FAST", "--output", str(output)]
    assert run_command(evaluate.main, argv) == 0
    assert json.loads(output.read_text())["operator_shares"]["O_FAST"] > 0


def test_the_report_shows_it(run, tmp_path):
    _, resumed, _ = run
    assert run_command(report.main, [str(resumed), "--output", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "cannot be read" not in page and "positions" in page


def test_a_problem_is_solved_by_it(run, capsys):
    options, resumed, _ = run
    argv = ["--config", TINY, *options, "--checkpoint", str(resumed / "checkpoints")]
    capsys.readouterr()
    assert run_command(solve.main, [*argv, "--trace", "8 14 15 = 2 ?"]) == 0
    assert "forward pass" in capsys.readouterr().out
