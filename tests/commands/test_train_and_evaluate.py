"""The command lines train and evaluate, driven as a user would, on a random countdown backbone."""

import contextlib
import functools
import io
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from support import toy
from support.small_run import (
    GEN_LEN,
    ROOT,
    TINY,
    metrics,
    samples,
    share_programs,
    signal_in_update,
    small_options,
    train_run,
)

from reoac_jax import evaluate, train
from reoac_jax.backbone import read_backbone, save_backbone
from reoac_jax.backbone.published import from_flax
from reoac_jax.config import load_config
from reoac_jax.convert.flax_to_mdlm import main as export
from reoac_jax.devices import sharding
from reoac_jax.devices.compilation import COMPILE_EVENT
from reoac_jax.devices.streams import RunStream
from reoac_jax.learning.exported import restore_backbone
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.parts import load_parts, untrained
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.policy.features import FEATURES, preview_names
from reoac_jax.policy.operators import OPERATOR_TYPES
from reoac_jax.report import __main__ as report
from reoac_jax.runs.checkpoints import read_item
from reoac_jax.runs.session import Session
from reoac_jax.system.errors import run_command


class Trained(NamedTuple):
    """A finished run of three iterations.

    printed: what it told. compiled: the iterations that compiled something, -1 for what no
    iteration asked for. built: what it has compiled, for `share_programs`.
    """

    run: Path
    options: list[str]
    printed: str
    compiled: set[int]
    built: dict


@contextlib.contextmanager
def compilations() -> Iterator[set[int]]:
    """Every program is attributed to the iteration whose episodes or samples asked for it."""
    thread, compiled = threading.local(), set()

    def note(event, seconds, **_):
        if event == COMPILE_EVENT:
            compiled.add(getattr(thread, "iteration", -1))

    with pytest.MonkeyPatch.context() as patch:

        def entering(owner, name, iteration_of):
            function = getattr(owner, name)

            def run(*arguments):
                thread.iteration = iteration_of(arguments)
                return function(*arguments)

            patch.setattr(owner, name, run)

        entering(train, "collect", lambda arguments: arguments[2])
        entering(train, "write_samples", lambda arguments: arguments[3])
        # Orbax cuts replicated arrays with programs of its own, once.
        entering(Session, "save", lambda arguments: -1)
        jax.monitoring.register_event_duration_secs_listener(note)
        try:
            yield compiled
        finally:
            jax.monitoring.unregister_event_duration_listener(note)


# Beside a backbone that is trained, a critic that is one; notation and look-ahead in one of them.
CRITIC = {
    mode: [
        f"--config.features.notation={mode == 'lora'}",
        f"--config.rollout.branch_k={0 if mode == 'full' else 2}",
        "--config.heads.critic=backbone",
        f"--config.heads.backbone.mode={mode}",
        "--config.backbone.dropout=0.2",
        "--config.optimizer.backbone_final_rate=0.1",
    ]
    for mode in ("lora", "full")
}


@pytest.fixture(scope="module")
def trained(backbone, tmp_path_factory):
    """What is trained -> a finished run, one for all tests."""

    def contents():
        return {path: path.read_bytes() for path in backbone.rglob("*") if path.is_file()}

    @functools.cache
    def run(mode: str) -> Trained:
        before, built = contents(), {}
        options = small_options(backbone, tmp_path_factory.mktemp(mode))
        options += [f"--config.backbone.finetune_mode={mode}", *CRITIC.get(mode, [])]
        with (
            compilations() as compiled,
            contextlib.redirect_stdout(io.StringIO()) as printed,
            pytest.MonkeyPatch.context() as patch,
        ):
            share_programs(patch, built)
            folder = train_run(options)
        assert contents() == before
        return Trained(folder, options, printed.getvalue(), compiled, built)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["frozen", "lora", "full"])
def test_train_leaves_a_run_folder_and_evaluates(mode, trained, backbone, tmp_path):
    run, options, printed, *_ = trained(mode)
    assert "evaluate it" in printed
    lines = metrics(run)
    assert [line["iteration"] for line in lines] == [0, 1, 2]
    for name in ("critic_loss", "actor_loss", "reward", "accuracy", "cost", "return"):
        assert name in lines[0]
    assert ("backbone_loss" in lines[0]) == (mode != "frozen")
    assert sum(lines[0]["operator_shares"].values()) == pytest.approx(1)
    if mode == "frozen":
        assert lines[0]["forward_passes"] > lines[0]["steps"]  # step 1 branches
    assert len(samples(run)) == 6
    sample = json.loads(next(iter(samples(run).values())))
    assert len(sample["relation"]) == 6 and len(sample["relation"][0]) == GEN_LEN
    assert bool(sample["steps"][1].get("candidates")) == (mode != "full")
    names = [*FEATURES, *preview_names(toy.ORIGINAL)]
    assert list(sample["steps"][0]["features"])[: len(names)] == names
    assert (len(sample["steps"][0]["features"]) > len(names)) == (mode == "lora")
    assert " ".join(sample["prompt_tokens"]).split() == sample["prompt"].split()
    assert sample["return"] == pytest.approx(sample["reward"] - 0.01 * sample["cost"])
    if mode == "lora":
        assert run_command(report.main, [str(run), "--output", str(tmp_path / "report")]) == 0
        page = (tmp_path / "report" / "index.html").read_text()
        assert "No line of" not in page.replace("No line of metrics.jsonl holds loss", "")
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"1", "2"}
    items = {path.name for path in (run / "checkpoints" / "2").iterdir()}
    expected = {"frozen": set(), "lora": {"backbone_lora"}, "full": {"backbone"}}[mode]
    assert items >= {"actor", "critic", "optimizers", "replay", "record"} | expected

    output = tmp_path / "eval.json"
    argv = ["--config", TINY, *options, "--output", str(output), "--limit", "5"]
    assert run_command(evaluate.main, argv) == 0
    result = json.loads(output.read_text())
    assert result["samples"] == 5 and result["policy"] == "actor" and result["iteration"] == 2
    assert result["interval_95"][0] <= result["accuracy"] <= result["interval_95"][1]
    answers = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    assert len(answers) == 5
    assert result["avg_cost"] == pytest.approx(np.mean([a["cost"] for a in answers]), rel=1e-6)

    argv = ["--checkpoint", str(run / "checkpoints"), "--output", str(tmp_path / "pytorch")]
    assert run_command(export, argv) == 0
    exported = load_file(tmp_path / "pytorch" / "model.safetensors")
    config, base = read_backbone(backbone)
    originals = from_flax(config, base)
    changed = {name for name, value in exported.items() if (value != originals[name]).any()}
    if mode == "frozen":
        assert not changed
    elif mode == "lora":
        assert changed and all("attn_" in name for name in changed)
    else:
        assert any("mlp" in name for name in changed)
    _, merged, _ = restore_backbone(run / "checkpoints")
    for name, value in from_flax(config, merged).items():
        np.testing.assert_array_equal(exported[name], value)


@pytest.mark.slow
def test_a_second_iteration_compiles_nothing(trained):
    # What no iteration asked for is compiled once a process, by whatever test runs first.
    assert trained("frozen").compiled - {-1} == {0}
    # The backbone's step has a program for each width of what was written.
    assert trained("lora").compiled - {-1} <= {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_resumed_run_equals_an_uninterrupted_one(mode, trained, tmp_path, monkeypatch, capsys):
    whole, options, _, _, built = trained(mode)
    options = [*options, f"--config.output_dir={tmp_path / 'runs'}"]
    share_programs(monkeypatch, built)
    signal_in_update(monkeypatch, 1, signal.SIGINT)
    capsys.readouterr()
    assert run_command(train.main, ["--config", TINY, *options]) == 130
    (run,) = (tmp_path / "runs" / "tiny").iterdir()
    assert f"python -m reoac_jax.train --resume {run}" in capsys.readouterr().err
    assert len(metrics(run)) == 1
    # As a kill after the last save would leave it: a line too many, and half of another.
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 1, "reward": 7}\n{"iterat')
    assert run_command(train.main, ["--resume", str(run)]) == 0
    assert metrics(run) == metrics(whole)
    assert samples(run) == samples(whole)
    for item in ["actor", "critic", {"lora": "backbone_lora", "full": "backbone"}[mode]]:
        resumed, straight = (read_item(r / "checkpoints" / "2", item) for r in (run, whole))
        jax.tree.map(np.testing.assert_array_equal, resumed, straight)
    if mode == "lora":  # a critic's overlay at another scale would value otherwise
        argv = ["--config", TINY, *options, "--config.lora.alpha=77", "--policy", "actor"]
        argv += ["--checkpoint", str(run / "checkpoints"), "--output", str(run / "other.json")]
        assert run_command(evaluate.main, argv) == 2
        assert "the critic's overlay in" in capsys.readouterr().err


SIZES = [(7, 4), (64, 1)]  # of the batch, and devices


@pytest.mark.slow
def test_answers_depend_neither_on_the_batch_nor_on_the_devices(options, tmp_path, monkeypatch):
    results = []
    make_mesh = sharding.make_mesh
    for size, devices in SIZES:
        monkeypatch.setattr(sharding, "make_mesh", lambda n=devices: make_mesh(jax.devices()[:n]))
        output = tmp_path / f"{size}_{devices}.json"
        argv = ["--config", TINY, *options, f"--config.evaluation.batch_size={size}"]
        argv += ["--policy", "random_operator", "--config.evaluation.sample_strategy=sample"]
        assert run_command(evaluate.main, [*argv, "--output", str(output)]) == 0
        results.append(output.with_suffix(".jsonl").read_text())
    assert all(result == results[0] for result in results)
    assert len(results[0].splitlines()) == 12


@pytest.mark.slow
def test_an_evaluation_can_be_repeated_from_its_file(options, tmp_path):
    """On another seed, policy and number of problems than the configuration file's."""
    first = tmp_path / "first.json"
    argv = ["--config", TINY, *options, "--config.seed=5", "--config.evaluation.batch_size=7"]
    argv += ["--policy", "random_operator", "--limit", "9", "--output", str(first)]
    assert run_command(evaluate.main, argv) == 0
    record = json.loads(first.read_text())
    assert record["command"].split()[:5] == ["python", "-m", "reoac_jax.evaluate", "--config", TINY]
    config, again = tmp_path / "config.json", tmp_path / "again.json"
    config.write_text(json.dumps(record["config"]))
    argv = ["--config", str(config), "--policy", record["policy"], "--output", str(again)]
    argv += ["--limit", str(record["limit"])]
    assert run_command(evaluate.main, argv) == 0
    repeated = json.loads(again.read_text())
    assert again.with_suffix(".jsonl").read_text() == first.with_suffix(".jsonl").read_text()
    timings = {"command", "seconds", "examples_per_second"}
    assert {k: v for k, v in repeated.items() if k not in timings} == {
        k: v for k, v in record.items() if k not in timings
    }


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["O_NUM", "confidence", "ancestral_cached"])
def test_other_policies_need_no_checkpoint(policy, options, tmp_path):
    output = tmp_path / "eval.json"
    argv = ["--config", TINY, *options, "--policy", policy, "--output", str(output)]
    assert run_command(evaluate.main, argv) == 0
    result = json.loads(output.read_text())
    assert result["checkpoint"] is None and 0 < result["forward_passes"] <= 4
    if policy in OPERATOR_TYPES:
        assert result["operator_shares"][policy] > 0


def bad_inputs(backbone: Path, tmp_path: Path) -> dict[str, tuple]:
    out = str(tmp_path / "out.json")
    config = ["--config", TINY, f"--config.backbone.path={backbone}"]
    return {
        "no config": (train, [], "--config"),
        "both": (train, ["--config", TINY, "--resume", "x"], "--resume"),
        "unknown option": (train, ["--confg", TINY], "--confg"),
        "config absent": (train, ["--config", "nowhere.py"], "nowhere.py"),
        "unknown key": (train, [*config, "--config.rollout.max_step=3"], "rollout.max_steps"),
        "wrong type": (train, [*config, "--config.rollout.max_steps=x"], "rollout.max_steps"),
        "out of range": (train, [*config, "--config.rollout.max_steps=0"], "rollout.max_steps"),
        "resume absent": (train, ["--resume", str(tmp_path / "run")], "run"),
        "backbone absent": (train, ["--config", TINY, "--config.backbone.path=nil"], "nil"),
        "backbone is PyTorch": (
            train, ["--config", TINY, f"--config.backbone.path={ROOT}/tests/golden/mdlm_small"],
            "convert",
        ),
        "tokenizer absent": (
            train, [*config, "--config.backbone.tokenizer_source=mdlm",
                    f"--config.backbone.tokenizer_path={tmp_path}"], str(tmp_path),
        ),
        "longer than the context": (
            train, [*config, "--config.rollout.max_prompt_len=60"], "context",
        ),
        "lora target": (
            train, [*config, "--config.backbone.finetune_mode=lora",
                    "--config.lora.targets=nothing,"], "lora.targets",
        ),
        "lora rank": (
            train, [*config, "--config.backbone.finetune_mode=lora", "--config.lora.rank=32"],
            "lora.rank",
        ),
        "cudnn on a CPU": (train, [*config, "--config.backbone.attention=cudnn"], "cudnn"),
        "data absent": (
            train, ["--config", str(ROOT / "configs/gsm8k.py"),
                    f"--config.backbone.path={backbone}",
                    "--config.backbone.tokenizer_source=auto",
                    "--config.rollout.gen_len=8", "--config.rollout.max_prompt_len=8",
                    "--config.task.train_file=none.jsonl"], "none.jsonl",
        ),
        "output is no json": (evaluate, [*config, "--output", str(tmp_path / "x.txt")], "x.txt"),
        "limit": (evaluate, [*config, "--output", out, "--limit", "0"], "--limit"),
        "limit is no number": (evaluate, [*config, "--output", out, "--limit", "x"], "--limit"),
        "policy": (evaluate, [*config, "--output", out, "--policy", "best"], "best"),
        "no run": (
            evaluate, [*config, "--output", out, f"--config.output_dir={tmp_path}"], str(tmp_path),
        ),
        "checkpoint absent": (
            evaluate, [*config, "--output", out, "--checkpoint", str(tmp_path / "c")], "c",
        ),
        "checkpoint empty": (
            evaluate, [*config, "--output", out, "--checkpoint", str(tmp_path)], str(tmp_path),
        ),
        "output missing": (evaluate, config, "--output"),
    }  # fmt: skip


SLOW = ("lora target", "lora rank")  # refused where the parameters are known
BAD = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
       for name in bad_inputs(Path(), Path())]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line(name, backbone, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, argv, expected = bad_inputs(backbone, tmp_path)[name]
    if not any("output_dir" in argument for argument in argv) and "--resume" not in argv:
        argv = [*argv, f"--config.output_dir={tmp_path / 'runs'}"]
    assert run_command(command.main, argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and expected in error
    assert not list(tmp_path.rglob("*"))


@pytest.mark.slow
def test_checkpoint_of_another_shape(trained, tmp_path, capsys):
    run, options, *_ = trained("lora")
    argv = ["--config", TINY, *options, "--config.heads.actor_hidden=7,"]
    argv += ["--checkpoint", str(run / "checkpoints"), "--output", str(tmp_path / "eval.json")]
    capsys.readouterr()
    assert run_command(evaluate.main, argv) == 2
    assert "actor" in capsys.readouterr().err
    assert not (tmp_path / "eval.json").exists()


@pytest.mark.slow
def test_checkpoint_over_another_backbone(trained, backbone, tmp_path, capsys):
    run, options, *_ = trained("lora")
    config, params = read_backbone(backbone)
    files = sorted((backbone / "tokenizer").iterdir())
    other = tmp_path / "other"
    save_backbone(other, config, toy.randomise(params, 1), source={}, tokenizer=files)
    argv = ["--config", TINY, *options, f"--config.backbone.path={other}"]
    argv += ["--checkpoint", str(run / "checkpoints"), "--output", str(tmp_path / "eval.json")]
    capsys.readouterr()
    assert run_command(evaluate.main, argv) == 2
    error = capsys.readouterr().err
    assert "was trained over a backbone of hash" in error and error.count("\n") == 1
    assert not (tmp_path / "eval.json").exists()


def test_untrained_actor_is_what_training_starts_from(options, backbone):
    config = load_config(TINY, options)
    parts = load_parts(config)
    settings = parts.rollout_settings(config)
    learner = Learner(
        parts.model, parts.heads, settings, LearnerSettings.from_config(config),
        sharding.make_mesh(),
    )  # fmt: skip
    key = jax.random.fold_in(jax.random.key(config.seed), RunStream.INIT)
    start = learner.init(key, parts.base)
    jax.tree.map(np.testing.assert_array_equal, start.heads, untrained(config, parts).heads)
