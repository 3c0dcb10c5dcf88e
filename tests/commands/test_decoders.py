"""Qwen3, LLaDA and Dream from end to end, by the configurations that stand in configs/."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.small_run import share_programs

from reoac_jax import evaluate, sft, train
from reoac_jax.backbone import read_backbone
from reoac_jax.convert import from_flax, to_flax
from reoac_jax.system.errors import run_command
from scripts import random_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "data" / "tiny_chat_tokenizer"
SMALL = {"hidden-dim": 32, "mlp-dim": 48, "n-blocks": 1, "n-heads": 2, "n-kv-heads": 1}


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """Six problems in the files' form."""
    folder = tmp_path_factory.mktemp("problems")
    for split in ("train", "test"):
        rows = [
            {
                "id": f"gsm8k/{split}/{i}",
                "prompt": f"Ann has {i} figs and gets 2. How many has she?",
                "target_answer": str(i + 2),
                "task": "gsm8k",
                "metadata": {"solution": f"<<{i}+2={i + 2}>>{i + 2}\n#### {i + 2}"},
            }
            for i in range(6)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def settings(folder, problems, output):
    return [
        f"--config.backbone.path={folder}",
        f"--config.output_dir={output}",
        f"--config.task.train_file={problems / 'train.jsonl'}",
        f"--config.task.test_file={problems / 'test.jsonl'}",
        "--config.task.worked_examples=1",
        "--config.rollout.max_steps=4",
        "--config.rollout.gen_len=16",
        "--config.rollout.max_prompt_len=400",
        "--config.rollout.batch_size=4",
        "--config.evaluation.batch_size=4",
        "--config.train.episodes_per_iter=4",
        "--config.train.episodes_per_prompt=2",
        "--config.train.backbone_batch=4",
        "--config.train.backbone_accumulate=2",
        "--config.train.backbone_steps=1",
        "--config.train.critic_steps=1",
        "--config.train.actor_steps=1",
        "--config.checkpoint.every=1",
        "--config.sft.steps=1",
        "--config.sft.batch_size=4",
        "--config.sft.accumulate=1",
        "--config.sft.warmup_steps=0",
        "--config.sft.eval_problems=2",
        "--config.sft.eval_steps=2",
        "--config.sft.eval_samples=1",
    ]


def newest(output):
    (experiment,) = output.iterdir()
    return max(experiment.iterdir(), key=lambda run: run.stat().st_mtime)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "llada", "dream"])
def test_convert_evaluate_fine_tune_train_resume_export(
    family, problems, tmp_path, capsys, monkeypatch
):  # fmt: skip
    sizes = [word for name, size in SMALL.items() for word in (f"--{name}", str(size))]
    source, folder = tmp_path / "source", tmp_path / "flax"
    argv = ["--architecture", family, "--output", str(source), "--dtype", "bfloat16", *sizes]
    argv += ["--vocab-size", "272", "--model-length", "1024", "--tokenizer", str(TOKENIZER)]
    assert random_checkpoint.main(argv) == 0
    argv = ["--source", str(source), "--output", str(folder), "--dtype", "stored", "--verify"]
    assert run_command(to_flax.main, argv) == 0
    config = ["--config", str(ROOT / "configs" / f"gsm8k_{family}.py")]
    capsys.readouterr()

    shared = [*config, *settings(folder, problems, tmp_path / "sft")]
    computed = {}
    for cache in ("none", "prefix") if family == "qwen3" else ("none",):
        file = tmp_path / f"{cache}.json"
        argv = [*shared, "--limit", "3", "--policy", "low_confidence:steps=4,block_len=8"]
        argv += [f"--config.rollout.cache={cache}", "--output", str(file)]
        assert run_command(evaluate.main, argv) == 0
        values = json.loads(file.read_text())
        assert values["samples"] == 3 and values["forward_passes"] == 4.0
        computed[cache] = values["tokens_computed"]
        for line in file.with_suffix(".jsonl").read_text().splitlines():
            assert "<|" not in json.loads(line)["text"]
    if family == "qwen3":
        # Of two passes a block the second computes 16 and 8 tokens and none of the prompt.
        assert computed["prefix"] < 0.6 * computed["none"]

    assert run_command(sft.main, shared) == 0
    tuned = newest(tmp_path / "sft") / "backbone"
    model, params = read_backbone(tuned)
    _, base = read_backbone(folder)
    same = {
        name: bool((params["blocks_0"][name]["kernel"] == base["blocks_0"][name]["kernel"]).all())
        for name in ("q_proj", "v_proj", "attn_out", "mlp_up")
    }
    assert same == {"q_proj": False, "v_proj": False, "attn_out": False, "mlp_up": True}
    assert (model.mask_id, model.token_count) == (259, 260)

    share_programs(monkeypatch, {})  # between a run and what resumes it
    shared = [*config, *settings(tuned, problems, tmp_path / "runs")]
    assert run_command(train.main, [*shared, "--config.train.iterations=1"]) == 0
    run = newest(tmp_path / "runs")
    argv = ["--resume", str(run), "--config.train.iterations=2"]
    assert run_command(train.main, argv) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1]
    assert all(np.isfinite(line["backbone_loss"]) for line in lines)

    exported, adapter = tmp_path / "exported", tmp_path / "adapter"
    checkpoints = ["--checkpoint", str(run / "checkpoints")]
    assert run_command(from_flax.main, [*checkpoints, "--output", str(exported)]) == 0
    assert run_command(from_flax.main, [*checkpoints, "--output", str(adapter), "--peft"]) == 0
    theirs, ours = (
        load_file(source / "model.safetensors"),
        load_file(exported / "model.safetensors"),
    )
    assert theirs.keys() == ours.keys()
    assert (exported / "chat_template.jinja").is_file()
    targets = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    ending = "attn_out" if family == "llada" else "self_attn.o_proj"
    assert sum(name.endswith(ending) for name in targets) == SMALL["n-blocks"]
    # What was exported is a checkpoint like any other.
    argv = ["--source", str(exported), "--output", str(tmp_path / "again"), "--verify"]
    assert run_command(to_flax.main, argv) == 0
