"""What is handed to others: PEFT adapters there and back, and the model card beside the weights."""

import functools
import json
import re
import shlex
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file
from support import toy

from reoac_jax import evaluate, train
from reoac_jax.backbone import Backbone, BackboneConfig, lora, read_backbone, save_backbone
from reoac_jax.backbone.peft import Adapter, BaseModel, read_adapter, write_adapter
from reoac_jax.backbone.store import derived_source, read_source
from reoac_jax.config import load_config
from reoac_jax.convert import flax_to_mdlm, mdlm_to_flax, peft_to_flax
from reoac_jax.convert.mdlm_torch import MDLM
from reoac_jax.learning.exported import restore_backbone
from reoac_jax.learning.parts import load_parts, starting_overlay, untrained
from reoac_jax.learning.state import checkpoint_record
from reoac_jax.runs.checkpoints import RunCheckpoints, read_item
from reoac_jax.runs.folder import RunLock, create_run
from reoac_jax.system.errors import InputError, run_command

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "configs" / "tiny.py")
GOLDEN = ROOT / "tests" / "golden"
TOKENS = np.random.default_rng(0).integers(0, 90, (2, 7)).astype(np.int32)
SIGMA = np.array([0.3, 2.0], np.float32)
TOLERANCE = 1e-4
RANK, SCALE = 3, 0.5


@pytest.fixture(scope="module")
def peft():
    """The library; its import takes seconds, which not every collection of tests should."""
    import peft

    return peft


def trained_overlay(params, targets, seed=2):
    """An overlay whose `b` is not zero, as after some training."""
    targets = targets or Backbone.lora_targets
    return toy.randomise(
        jax.jit(lora.init, static_argnums=(2, 3))(jax.random.key(seed), params, targets, RANK), seed
    )


@functools.cache
def forward(config):
    return jax.jit(Backbone(config).apply)


def our_logits(config, params):
    lengths = np.full(len(TOKENS), TOKENS.shape[1], np.int32)
    return np.asarray(forward(config)({"params": params}, TOKENS, lengths, SIGMA).logits)


def torch_logits(model):
    with torch.inference_mode():
        return model(torch.from_numpy(TOKENS).long(), torch.from_numpy(SIGMA)).logits.numpy()


def assert_changed_alike(got, want, base):
    """`got` is `want`, which is not `base`, so that an adapter without effect would be seen."""
    assert np.abs(want - base).max() > 100 * TOLERANCE
    np.testing.assert_allclose(got, want, atol=TOLERANCE * max(1.0, np.abs(want).max()))


@pytest.fixture(scope="module")
def timecond(tmp_path_factory):
    """A time-conditioned backbone in our folder and in PyTorch's."""
    folder = tmp_path_factory.mktemp("timecond")
    argv = ["--source", str(GOLDEN / "mdlm_small_timecond"), "--output", str(folder / "flax")]
    assert mdlm_to_flax.main(argv) == 0
    argv = ["--source", str(folder / "flax"), "--output", str(folder / "torch")]
    assert flax_to_mdlm.main(argv) == 0
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A random backbone over the bundled tokenizer, as it would come from the hub."""
    folder = tmp_path_factory.mktemp("backbone") / "tiny"
    config = BackboneConfig(1200, 64, 16, 8, 2, 2)
    tokens = np.zeros((1, 4), np.int32), np.array([4], np.int32)
    params = jax.jit(Backbone(config).init)(jax.random.key(0), *tokens)["params"]
    files = [ROOT / "data/tiny_mdlm" / n for n in ("tokenizer.json", "tokenizer_config.json")]
    source = {
        "source": "kuleshov-group/mdlm-owt", "revision": "0123abc", "sha256": "feed",
        "weights": "model.safetensors",
    }  # fmt: skip
    save_backbone(folder, config, toy.randomise(params, 0), source=source, tokenizer=files)
    return folder


@pytest.fixture(scope="module")
def options(backbone, tmp_path_factory):
    """A configuration whose programs are small."""
    return [
        f"--config.backbone.path={backbone}",
        f"--config.output_dir={tmp_path_factory.mktemp('runs')}",
        "--config.backbone.finetune_mode=lora",
        f"--config.lora.rank={RANK}",
        f"--config.lora.alpha={SCALE * RANK}",
        "--config.lora.dropout=0.25",
        "--config.task.train_size=20",
        "--config.task.test_size=6",
        "--config.rollout.max_steps=2",
        "--config.train.episodes_per_iter=2",
        "--config.train.episodes_per_prompt=2",
        "--config.train.iterations=1",
        "--config.train.critic_steps=0",
        "--config.train.actor_steps=0",
        "--config.train.backbone_steps=0",
    ]


@pytest.fixture(scope="module")
def run(options, backbone):
    """A run as training leaves it after 5 iterations, and an evaluation of its weights in it."""
    config = load_config(TINY, options)
    parts = load_parts(config)
    heads = untrained(config, parts).heads
    with RunLock() as lock:
        folder = create_run(config, lock)
    overlay = trained_overlay(parts.base, ())
    items = {"actor": heads.actor, "critic": heads.critic, "backbone_lora": overlay}
    with RunCheckpoints(folder / "checkpoints", 1, 0) as checkpoints:
        checkpoints.save(4, items, checkpoint_record(config, parts, 4), 0.0)
    argv = ["--config", TINY, *options, "--policy", "confidence"]
    argv += ["--checkpoint", str(folder), "--output", str(folder / "evaluation.json")]
    assert run_command(evaluate.main, argv) == 0
    return folder


@pytest.fixture(scope="module")
def adapter(run, tmp_path_factory):
    """The run's overlay as a PEFT adapter."""
    folder = tmp_path_factory.mktemp("adapter") / "tuned"
    argv = ["--checkpoint", str(run), "--output", str(folder), "--peft"]
    assert flax_to_mdlm.main(argv) == 0
    return folder


@pytest.fixture(scope="module")
def torch_base(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch") / "base"
    assert flax_to_mdlm.main(["--source", str(backbone), "--output", str(folder)]) == 0
    return folder


@pytest.mark.parity
def test_peft_loads_a_runs_overlay_with_equal_logits(peft, run, adapter, torch_base, backbone):
    config, merged, _ = restore_backbone(run)
    theirs = peft.PeftModel.from_pretrained(MDLM.from_folder(torch_base), adapter)
    _, base = read_backbone(backbone)
    assert_changed_alike(torch_logits(theirs), our_logits(config, merged), our_logits(config, base))
    fields = theirs.peft_config["default"]
    assert (fields.r, fields.lora_alpha, fields.lora_dropout) == (RANK, RANK * SCALE, 0.25)
    assert fields.base_model_name_or_path == "kuleshov-group/mdlm-owt"
    assert fields.revision == "0123abc"


@pytest.mark.parity
def test_peft_loads_an_overlay_on_every_matrix(peft, timecond, tmp_path):
    config, base = read_backbone(timecond / "flax")
    overlay = trained_overlay(base, (".",))
    write_adapter(tmp_path, config, Adapter(overlay, SCALE, 0.0), BaseModel(None, None))
    theirs = peft.PeftModel.from_pretrained(MDLM.from_folder(timecond / "torch"), tmp_path)
    want = our_logits(config, lora.merge(base, overlay, SCALE))
    assert_changed_alike(torch_logits(theirs), want, our_logits(config, base))
    again = read_adapter(tmp_path, config)
    assert again.scale == SCALE
    jax.tree.map(np.testing.assert_array_equal, again.overlay, overlay)


@pytest.mark.parity
@pytest.mark.parametrize("rslora", [False, True])
def test_what_peft_saves_is_read_back(peft, timecond, tmp_path, rslora, capsys):
    """Names as a PyTorch user gives them: `mlp.0` is in every block and in the map of sigma."""
    torch.manual_seed(0)
    settings = peft.LoraConfig(
        r=RANK, lora_alpha=5, target_modules=["attn_qkv", "mlp.0"], use_rslora=rslora,
        init_lora_weights=False,
    )  # fmt: skip
    theirs = peft.get_peft_model(MDLM.from_folder(timecond / "torch"), settings).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    argv = ["--adapter", str(tmp_path / "adapter"), "--base", str(timecond / "flax")]
    assert peft_to_flax.main([*argv, "--output", str(tmp_path / "merged")]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    config, merged = read_backbone(tmp_path / "merged")
    assert report["matrices"] == 2 * config.n_blocks + 1
    assert report["scale"] == pytest.approx(5 / RANK ** (0.5 if rslora else 1))
    base = our_logits(*read_backbone(timecond / "flax"))
    assert_changed_alike(our_logits(config, merged), torch_logits(theirs), base)
    before = read_source(timecond / "flax")
    after = read_source(tmp_path / "merged")
    assert after["buffers"] == before["buffers"]
    assert after["base"]["sha256"] == before["sha256"]


@pytest.mark.slow
def test_training_and_evaluation_start_from_an_adapter(adapter, options, run, tmp_path):
    """Without a gradient step the new run's overlay is the adapter; evaluation merges it."""
    start = [*options, f"--config.lora.adapter={adapter}", f"--config.output_dir={tmp_path}"]
    assert run_command(train.main, ["--config", TINY, *start]) == 0
    new = next((tmp_path / "tiny").iterdir())
    overlays = [
        read_item(checkpoint, "backbone_lora")
        for checkpoint in (new / "checkpoints" / "0", run / "checkpoints" / "4")
    ]
    jax.tree.map(np.testing.assert_array_equal, *overlays)
    config = load_config(TINY, start)
    merged = untrained(config, load_parts(config)).params
    _, want, _ = restore_backbone(run)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(merged), want)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("--config.lora.rank=2", "has rank 3"),
        ("--config.lora.alpha=7", "lora.alpha 7"),
        ("--config.lora.targets=attn_qkv,", "attn_out"),
        ("--config.backbone.finetune_mode=frozen", "peft_to_flax"),
        ("--config.lora.adapter=nowhere", "nowhere"),
    ],
)
def test_an_adapter_must_be_what_the_configuration_says(
    adapter, options, tmp_path, capsys, change, named
):
    argv = ["--config", TINY, *options, f"--config.lora.adapter={adapter}"]
    argv += [f"--config.output_dir={tmp_path}", change]
    assert run_command(train.main, argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and named in error
    assert not list(tmp_path.iterdir())


def test_the_command_that_merges_an_adapter_can_be_pasted():
    adapter, base = "my 'adapter'; $(touch ran)", "the base"
    config = load_config(
        TINY, [f"--config.lora.adapter={adapter}", f"--config.backbone.path={base}"]
    )
    with pytest.raises(InputError) as refusal:
        starting_overlay(config, None, "frozen")
    command = shlex.split(str(refusal.value).partition("adapter merged: ")[2])
    assert command[1:] == [
        "-m", "reoac_jax.convert.peft_to_flax", "--adapter", adapter, "--base", base,
        "--output", "DIR",
    ]  # fmt: skip


def edit_fields(**changes):
    def edit(folder):
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


def edit_tensors(change):
    def edit(folder):
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        change(tensors, sorted(tensors)[0])
        save_file(tensors, file)

    return edit


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (edit_fields(peft_type="IA3"), "peft_type LORA"),
        (edit_fields(use_dora=True), "use_dora"),
        (edit_fields(rank_pattern={"attn_qkv": 4}), "rank_pattern"),
        (edit_fields(modules_to_save=["output_layer"]), "modules_to_save"),
        (edit_fields(some_future_variant=1), "some_future_variant"),
        (edit_fields(bias="all"), "bias"),
        (edit_fields(init_lora_weights="pissa"), "pissa"),
        (edit_fields(r="3"), "r is '3'"),
        (edit_fields(r=4), "expected [4, 16]"),
        (edit_fields(lora_alpha=None), "lora_alpha"),
        (edit_tensors(lambda t, key: t.pop(key)), "attn_out.lora_A.weight is missing"),
        (edit_tensors(lambda t, key: t.update({"x" + key: t[key]})), "key xbase_model"),
        (edit_tensors(lambda t, key: t[key].fill(np.nan)), "NaN"),
        (edit_tensors(lambda t, _: t.clear()), "holds no weights"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model"),
        (lambda folder: (folder / "adapter_model.safetensors").write_text("{"), "truncated"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "adapter_config"),
        (shutil.rmtree, "adapter_config"),
    ],
)
def test_bad_adapters_get_one_line(adapter, backbone, tmp_path, capsys, damage, named):
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    damage(folder)
    argv = ["--adapter", str(folder), "--base", str(backbone), "--output", str(tmp_path / "out")]
    assert run_command(peft_to_flax.main, argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and named in error
    assert not (tmp_path / "out").exists()


def test_peft_needs_a_trained_overlay(backbone, options, tmp_path, capsys):
    output = ["--output", str(tmp_path / "out"), "--peft"]
    assert run_command(flax_to_mdlm.main, ["--source", str(backbone), *output]) == 2
    assert "--peft needs --checkpoint" in capsys.readouterr().err
    config = load_config(TINY, [*options, "--config.backbone.finetune_mode=frozen"])
    parts = load_parts(config)
    record = checkpoint_record(config, parts, 0)
    with RunCheckpoints(tmp_path / "checkpoints", 1, 0) as checkpoints:
        checkpoints.save(0, {"actor": {"x": jnp.zeros(1)}}, record, 0.0)
    assert run_command(flax_to_mdlm.main, ["--checkpoint", str(tmp_path), *output]) == 2
    assert "mode was frozen" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def read_card(folder):
    """Front matter and text."""
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def snippet(text, **replaced):
    code = re.search("```python\n(.*?)```", text, re.DOTALL).group(1)
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    return code


def test_the_card_of_an_adapter(adapter, run, torch_base, monkeypatch):
    front, text = read_card(adapter)
    score = json.loads((run / "evaluation.json").read_text())
    assert front["base_model"] == "kuleshov-group/mdlm-owt" and front["library_name"] == "peft"
    assert front["license"] == "apache-2.0"  # the base's
    result = front["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == score["accuracy"]
    low, high = score["interval_95"]
    assert f"| countdown | confidence | {score['accuracy']:.2%} | {low:.2%} to {high:.2%} |" in text
    assert "5 of 1 iterations" in text  # five iterations behind it, whatever the plan says
    assert "python -m reoac_jax.train --config training_config.json" in text
    assert "revision `0123abc`" in text and "jax 0." in text and "--peft" in text
    config = load_config(adapter / "training_config.json")
    assert config == load_config(run / "config.json")
    monkeypatch.chdir(adapter)
    names = {}
    exec(snippet(text, BASE=str(torch_base)), names)
    assert names["logits"].shape == (1, 8, 1200)


def test_the_card_of_whole_weights(run, tmp_path, monkeypatch):
    """The folder's name has spaces, quotes and a substitution: bash reads the command back."""
    output = tmp_path / 'my "out"; $(touch ran)'
    argv = ["--checkpoint", str(run), "--output", str(output), "--license", "mit"]
    assert flax_to_mdlm.main(argv) == 0
    front, text = read_card(output)
    assert front["license"] == "mit" and front["library_name"] == "transformers"
    assert "overlay that was trained is merged" in text and "Weights: mit." in text
    (command,) = re.findall(r"^ {4}(python -m reoac_jax.convert.from_flax .*)", text, re.MULTILINE)
    assert shlex.split(command) == ["python", "-m", "reoac_jax.convert.from_flax", *argv]
    monkeypatch.chdir(output)
    names = {}
    exec(snippet(text), names)
    config, merged, _ = restore_backbone(run)
    lengths = np.array([8], np.int32)
    want = forward(config)({"params": merged}, np.full((1, 8), 1199), lengths, SIGMA[:1]).logits
    np.testing.assert_allclose(names["logits"].detach().numpy(), want, atol=TOLERANCE)


def test_scores_of_other_weights_are_not_claimed(run, backbone, tmp_path, capsys):
    """Neither of the run's other iterations nor, for the base, of what was trained over it."""
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    score = json.loads((run / "evaluation.json").read_text())
    (moved / "evaluation.json").write_text(json.dumps(score | {"iteration": 3}))
    argv = ["--checkpoint", str(moved), "--output", str(tmp_path / "out"), "--peft"]
    assert run_command(flax_to_mdlm.main, [*argv, "--eval", str(moved / "evaluation.json")]) == 2
    assert "was made with" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert run_command(flax_to_mdlm.main, [*argv, "--eval", str(moved / "config.json")]) == 2
    assert "has no key policy" in capsys.readouterr().err
    assert run_command(flax_to_mdlm.main, argv) == 0
    front, text = read_card(tmp_path / "out")
    assert "model-index" not in front and "No evaluation of these weights" in text
    argv = ["--source", str(backbone), "--output", str(tmp_path / "base")]
    assert run_command(flax_to_mdlm.main, [*argv, "--eval", str(run / "evaluation.json")]) == 2
    own = tmp_path / "own.json"
    own.write_text(json.dumps(score | {"checkpoint": None, "adapter": "none"}))
    assert run_command(flax_to_mdlm.main, [*argv, "--eval", str(own)]) == 0
    assert "model-index" in read_card(tmp_path / "base")[0]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(score | {"checkpoint": None, "adapter": str(tmp_path)}))
    argv = ["--source", str(backbone), "--output", str(tmp_path / "base2")]
    assert run_command(flax_to_mdlm.main, [*argv, "--eval", str(other)]) == 2


def test_origins_are_followed_to_the_root(backbone, tmp_path):
    """A backbone made from a backbone: the card names both and the root's licence."""
    config, params = read_backbone(backbone)
    source = {"source": "reoac_jax.sft", "task": "gsm8k", "steps": 70, "mode": "full"}
    source |= derived_source(backbone)
    save_backbone(tmp_path / "tuned", config, toy.randomise(params, 5), source=source)
    argv = ["--source", str(tmp_path / "tuned"), "--output", str(tmp_path / "out")]
    assert flax_to_mdlm.main(argv) == 0
    front, text = read_card(tmp_path / "out")
    assert front["base_model"] == "kuleshov-group/mdlm-owt" and front["license"] == "apache-2.0"
    assert text.index("70 steps on gsm8k") < text.index("from `kuleshov-group/mdlm-owt`")
    assert "SHA-256 `feed`" in text


def test_an_unknown_licence_is_not_made_up(timecond):
    front, text = read_card(timecond / "torch")
    assert front["license"] == "unknown" and "base_model" not in front
    assert "was not given" in text
    assert "torch.zeros(1)" in snippet(text)  # a time-conditioned model needs sigma
