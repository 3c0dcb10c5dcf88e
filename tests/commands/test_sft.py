"""The command line sft, driven as a user would: training, exact resume, text, mistakes."""

import contextlib
import functools
import io
import json
import math
import os
import runpy
import shlex
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from support import toy
from support.small_run import share_programs

from reoac_jax import evaluate, sft
from reoac_jax.backbone import (
    Backbone,
    BackboneConfig,
    load_backbone,
    read_backbone,
    save_backbone,
    stored_hash,
)
from reoac_jax.backbone.published import from_flax
from reoac_jax.convert.flax_to_mdlm import main as export
from reoac_jax.convert.mdlm_to_flax import main as convert
from reoac_jax.devices.sharding import make_mesh
from reoac_jax.finetuning import nelbo
from reoac_jax.finetuning.objective import Answers
from reoac_jax.learning.exported import restore_backbone
from reoac_jax.system.errors import run_command

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny.py")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A random backbone over the bundled word tokenizer, in a converted folder."""
    return toy.word_backbone(tmp_path_factory.mktemp("backbone") / "tiny", scale=0.05)


@pytest.fixture
def options(backbone, tmp_path):
    """Overrides for a run of seconds, written below tmp_path."""
    return sft_options(backbone, tmp_path)


def sft_options(backbone: Path, folder: Path) -> list[str]:
    return [
        f"--config.backbone.path={backbone}",
        f"--config.output_dir={folder / 'runs'}",
        "--config.task.train_size=40",
        "--config.task.test_size=12",
        "--config.sft.steps=8",
        "--config.sft.batch_size=16",
        "--config.sft.accumulate=2",
        "--config.sft.learning_rate=0.01",
        "--config.sft.warmup_steps=1",
        "--config.sft.log_every=3",
        "--config.sft.eval_every=6",
        "--config.sft.eval_problems=10",
        "--config.sft.eval_samples=2",
        "--config.sft.eval_steps=3",
        "--config.sft.checkpoint_every=5",
        "--config.sft.short_share=0.5",
        "--config.sft.eos_weight=0.5",
        "--config.rollout.gen_len=15",
    ]


def newest(options) -> Path:
    output = next(o for o in options if "output_dir" in o).split("=")[1]
    return max(Path(output, "tiny").iterdir(), key=lambda run: run.stat().st_mtime)


def metrics(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def built():
    """Compiled programs of `finished`, by what is trained."""
    return {}


@pytest.fixture(scope="module")
def finished(backbone, built, tmp_path_factory):
    """What is trained -> its finished run, one for all tests, and what it printed."""

    @functools.cache
    def run(mode: str) -> tuple[Path, str]:
        options = sft_options(backbone, tmp_path_factory.mktemp(mode) / "my $(touch ran)")
        argv = ["--config", TINY, *options, f"--config.sft.mode={mode}"]
        with (
            contextlib.redirect_stdout(io.StringIO()) as printed,
            pytest.MonkeyPatch.context() as patch,
        ):
            share_programs(patch, built.setdefault(mode, {}))
            assert run_command(sft.main, argv) == 0
        return newest(options), printed.getvalue()

    return run


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_result_is_taken_by_everything_else(mode, finished, backbone, tmp_path):
    before = {path: path.read_bytes() for path in backbone.rglob("*") if path.is_file()}
    run, printed = finished(mode)
    use = shlex.split(last_line(printed).partition("use it: ")[2])  # as a shell reads it
    path = f"--config.backbone.path={run / 'backbone'}"
    assert use == ["python", "-m", "reoac_jax.train", "--config", "FILE", path]
    assert before == {path: path.read_bytes() for path in backbone.rglob("*") if path.is_file()}

    lines = metrics(run)
    assert [line["iteration"] for line in lines] == [0, 3, 6, 8]
    assert ["nelbo" in line for line in lines] == [True, False, True, True]
    assert lines[-1]["nelbo"] < lines[0]["nelbo"] < 1.2 * math.log(1199) * 15 / 13

    # The folder holds the averaged weights of the last checkpoint, and says its hash.
    config, params = read_backbone(run / "backbone")
    _, average, _ = restore_backbone(run / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, params, average)
    assert stored_hash(run / "backbone") != stored_hash(backbone)
    _, base = read_backbone(backbone)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), params, base)
    assert same["blocks_0"]["mlp_in"]["kernel"] == (mode == "lora")
    assert not same["blocks_0"]["attn_qkv"]["kernel"]

    published = tmp_path / "published"
    argv = ["--source", str(run / "backbone"), "--output", str(published)]
    assert run_command(export, argv) == 0
    tensors = load_file(published / "model.safetensors")
    expected = from_flax(config, params)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, expected[name])
    assert (published / "tokenizer.json").is_file()


@pytest.mark.slow
def test_evaluate_takes_the_result_and_agrees(finished, options, tmp_path):
    run, _ = finished("full")
    output = tmp_path / "eval.json"
    argv = [
        "--config", TINY, *options, f"--config.backbone.path={run / 'backbone'}",
        "--config.rollout.max_steps=3", "--policy", "confidence", "--limit", "10",
        "--output", str(output),
    ]  # fmt: skip
    assert run_command(evaluate.main, argv) == 0
    result = json.loads(output.read_text())
    assert result["base_hash"] == stored_hash(run / "backbone")
    assert result["accuracy"] == metrics(run)[-1]["accuracy"]


@pytest.mark.slow
def test_stopped_before_the_first_step(options, monkeypatch, capsys):
    created = sft.AnswerEvaluation.create

    def interrupting(*arguments):
        evaluation = created(*arguments)

        def measure(params):
            os.kill(os.getpid(), signal.SIGINT)
            return evaluation(params)

        return measure

    monkeypatch.setattr(sft.AnswerEvaluation, "create", interrupting)
    assert run_command(sft.main, ["--config", TINY, *options, "--config.sft.steps=2"]) == 130
    monkeypatch.setattr(sft.AnswerEvaluation, "create", created)
    run = newest(options)
    assert "stopped after 0 of" in capsys.readouterr().err
    assert run_command(sft.main, ["--resume", str(run)]) == 0
    assert [line["iteration"] for line in metrics(run)] == [0, 2]


@pytest.mark.slow
def test_training_initialisation_predicts_uniformly(tmp_path):
    argv = ["--init", "training", "--output", str(tmp_path / "t"), "--seed", "3"]
    assert (
        run_command(runpy.run_path(str(ROOT / "scripts/random_checkpoint.py"))["main"], argv) == 0
    )
    argv = ["--source", str(tmp_path / "t"), "--output", str(tmp_path / "f")]
    assert run_command(convert, argv) == 0
    model, params = load_backbone(tmp_path / "f")
    rows = np.arange(12, dtype=np.int32).reshape(2, 6), np.array([6, 4], np.int32)
    out = jax.jit(model.apply)({"params": params}, *rows)
    assert (np.asarray(out.logits) == 0).all()
    # The gates are closed: a row's hidden states are its embeddings.
    table = np.asarray(params["vocab_embed"]["embedding"])
    np.testing.assert_array_equal(out.hidden, table[rows[0]])
    assert np.abs(table).max() <= 1 / 8 and table.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.02)


@pytest.mark.slow
def test_resume_goes_on_exactly(finished, built, options, tmp_path, monkeypatch, capsys):
    whole, _ = finished("full")
    share_programs(monkeypatch, built["full"])

    # A kill in step 8, after the line of step 6 and the checkpoint of step 5 were written.
    options = [*options, f"--config.output_dir={tmp_path / 'killed'}"]
    argv = ["--config", TINY, *options]
    original = sft.batch_rows

    def killed(seed, count, size, step):
        if step == 7:
            raise MemoryError("killed")
        return original(seed, count, size, step)

    monkeypatch.setattr(sft, "batch_rows", killed)
    with pytest.raises(MemoryError):
        run_command(sft.main, argv)
    monkeypatch.setattr(sft, "batch_rows", original)
    cut = max((tmp_path / "killed" / "tiny").iterdir())
    assert [line["iteration"] for line in metrics(cut)] == [0, 3, 6]
    assert run_command(sft.main, ["--resume", str(cut)]) == 0
    assert metrics(cut) == metrics(whole)
    assert stored_hash(cut / "backbone") == stored_hash(whole / "backbone")

    # Ctrl-C in step 4: saved at once, between two lines, and the same end.
    options = [*options, f"--config.output_dir={tmp_path / 'stopped'}"]

    class Interrupted(sft.Ahead):
        step = -1

        def __next__(self):
            self.step += 1
            if self.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__next__()

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(sft, "Ahead", Interrupted)
        assert run_command(sft.main, ["--config", TINY, *options]) == 130
    stopped = max((tmp_path / "stopped" / "tiny").iterdir())
    assert f"reoac_jax.sft --resume {stopped}" in last_line(capsys.readouterr().err)
    assert {path.name for path in (stopped / "checkpoints").iterdir()} == {"4"}
    assert not (stopped / "backbone").exists()
    assert run_command(sft.main, ["--resume", str(stopped)]) == 0
    assert metrics(stopped) == metrics(whole)
    assert stored_hash(stopped / "backbone") == stored_hash(whole / "backbone")

    # The result, lost after the last checkpoint, is written again from it.
    shutil.rmtree(stopped / "backbone")
    assert run_command(sft.main, ["--resume", str(stopped)]) == 0
    assert stored_hash(stopped / "backbone") == stored_hash(whole / "backbone")


def test_every_example_is_seen_once_an_epoch():
    rows = np.concatenate([sft.batch_rows(3, 10, 4, step) for step in range(10)])
    for epoch in rows.reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    assert (rows[:10] != rows[10:20]).any()


# ---- NELBO of texts


@pytest.mark.slow
def test_text_under_a_uniform_model_has_the_known_perplexity(tmp_path, capsys):
    config = BackboneConfig(1200, 32, 16, 8, 1, 2)
    tokens = np.zeros((1, 4), np.int32), np.array([4], np.int32)
    params = jax.jit(Backbone(config).init)(jax.random.key(0), *tokens)[
        "params"
    ]  # the head is zero
    files = [ROOT / "data/tiny_mdlm" / n for n in ("tokenizer.json", "tokenizer_config.json")]
    save_backbone(tmp_path / "b", config, params, source={"source": "a test"}, tokenizer=files)
    text = tmp_path / "text.txt"
    text.write_text(" ".join(str(i % 1000) for i in range(3000)) + "<eos>\n7 + 8 = 15\n")
    argv = [
        "--config", TINY, f"--config.backbone.path={tmp_path / 'b'}", "--eval-only", "--text",
        str(text), "--config.sft.eval_samples=8", "--config.rollout.gen_len=13",
    ]  # fmt: skip
    assert run_command(sft.main, argv) == 0
    report = json.loads(last_line(capsys.readouterr().out))
    assert report["documents"] == 2
    joined = 3000 + 1 + 5 + 1
    assert report["blocks"] == -(-joined // 30)
    assert report["tokens"] == joined + 2 * report["blocks"]
    assert abs(report["nelbo"] - math.log(1199)) < 4 * report["nelbo_standard_error"] < 0.6
    assert report["perplexity"] == pytest.approx(math.exp(report["nelbo"]))


@pytest.mark.slow
def test_nelbo_of_a_row_does_not_depend_on_the_batch():
    model, params = toy.backbone(blocks=1)
    rng = np.random.default_rng(0)
    rows = Answers(
        rng.integers(2, 20, (9, 4)).astype(np.int32), np.full(9, 4, np.int32),
        rng.integers(2, 20, (9, 6)).astype(np.int32), rng.integers(2, 7, 9).astype(np.int32),
    )  # fmt: skip
    mesh = make_mesh(jax.devices()[:1])
    large, small = (
        nelbo.NelboProgram(model, toy.EOS_ID, mesh, size, samples=3, seed=0)(params, rows)
        for size in (16, 4)
    )
    np.testing.assert_allclose(large, small, rtol=1e-5)
    assert len(set(large)) == 9


# ---- Mistakes


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["--config", "--resume"]),
        (["--config", TINY, "--eval-only"], ["--text"]),
        (["--config", TINY, "--text", "x"], ["--eval-only"]),
        (["--resume", "nowhere"], ["nowhere", "no run folder"]),
        (["--resume", "nowhere", "--config.seed=1"], ["--config.seed=1", "--resume alone"]),
        (["--config", TINY, "--config.sft.stepz=3"], ["sft.stepz", "did you mean", "sft.steps"]),
        (["--config", TINY, "--config.sft.mode=all"], ["sft.mode", "lora, full"]),
        (["--config", TINY, "--config.sft.accumulate=5"], ["sft.batch_size", "multiple", "5"]),
        (["--config", TINY, "--config.sft.warmup_steps=9999"], ["warmup_steps", "sft.steps"]),
        (["--config", TINY, "--config.sft.warmup_share=1.5"], ["warmup_share", "0.0 to 0.99"]),
        (["--config", TINY, "--config.sft.batch_size=6"], ["multiple of the 4 devices"]),
        (["--config", TINY, "--config.backbone.path=nowhere"], ["nowhere", "does not exist"]),
    ],
)
def test_mistakes_end_in_one_line(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(sft.main, argv) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    for word in words:
        assert word in error
    assert not any(tmp_path.iterdir())


def test_text_that_is_absent_is_named(backbone, capsys):
    argv = [
        "--config", TINY, f"--config.backbone.path={backbone}", "--eval-only", "--text", "no.txt"
    ]  # fmt: skip
    assert run_command(sft.main, argv) == 2
    assert "no.txt" in capsys.readouterr().err


@pytest.mark.slow
def test_resume_over_another_backbone_is_refused(options, backbone, tmp_path, capsys):
    copied = tmp_path / "copied"
    shutil.copytree(backbone, copied)
    argv = ["--config", TINY, *options, f"--config.backbone.path={copied}", "--config.sft.steps=2"]
    assert run_command(sft.main, argv) == 0
    run = newest(options)
    shutil.rmtree(copied)
    shutil.copytree(run / "backbone", copied)
    assert run_command(sft.main, ["--resume", str(run)]) == 2
    assert "was trained over a backbone of hash" in capsys.readouterr().err
