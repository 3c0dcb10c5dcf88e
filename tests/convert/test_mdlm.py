"""PyTorch to Flax and back: the key map, every kind of source, `--verify`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file
from support.converting import SMALL, TIMECOND, convert, published

from reoac_jax.backbone import BackboneConfig, parameter_count, read_backbone
from reoac_jax.backbone.mdlm.published import INV_FREQ_KEY
from reoac_jax.backbone.published import weights
from reoac_jax.backbone.store import read_source
from reoac_jax.convert import flax_to_mdlm, to_flax
from reoac_jax.convert.mdlm_torch import MDLM
from scripts import random_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def write_checkpoint(path, state, ema=None, **more):
    checkpoint = {"state_dict": state, "global_step": 7, **more}
    if ema is not None:
        checkpoint["ema"] = {"decay": 0.9999, "num_updates": 7, "shadow_params": ema}
    torch.save(checkpoint, path)


@pytest.fixture(scope="module")
def state():
    """The small golden checkpoint as a PyTorch state dict."""
    tensors = load_file(SMALL / "model.safetensors")
    return {key: torch.from_numpy(value) for key, value in tensors.items()}


@pytest.mark.parity
@pytest.mark.parametrize(
    "config",
    [
        BackboneConfig(131, 48, 64, 32, 3, 4),
        BackboneConfig(17, 8, 24, 10, 1, 3, time_conditioning=True),
        BackboneConfig(11, 8, 8, 4, 12, 1),
    ],
)
def test_the_key_map_is_the_reference_model_in_registration_order(config):
    sizes = config.to_json()
    del sizes["model_length"]
    model = MDLM(**sizes)
    ours = [(weight.key, weight.shape) for weight in weights(config)]
    assert ours == [(key, tuple(value.shape)) for key, value in model.named_parameters()]
    assert set(model.state_dict()) == {key for key, _ in ours} | {INV_FREQ_KEY}
    assert parameter_count(config) == sum(value.numel() for value in model.parameters())


def test_the_published_size_has_the_published_parameters():
    assert parameter_count(BackboneConfig()) == 169_627_218


@pytest.mark.parametrize("source", [SMALL, TIMECOND])
def test_our_tree_is_the_one_the_model_initialises(source, tmp_path):
    convert(source, tmp_path / "out")
    config, params = read_backbone(tmp_path / "out")
    from reoac_jax.backbone import Backbone

    tokens, ones = np.zeros((1, 4), np.int32), np.ones((1,), np.int32)
    made = jax.eval_shape(Backbone(config).init, jax.random.key(0), tokens, ones, np.ones((1,)))
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), made["params"])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == shapes


@pytest.mark.parametrize("rotary_shift", [0, 1])
def test_there_and_back_is_bit_identical(tmp_path, capsys, rotary_shift):
    """Also where the file's rotary buffer differs from ours in the last bit."""
    source = tmp_path / "source"
    source.mkdir()
    tensors = load_file(SMALL / "model.safetensors")
    bits = tensors[INV_FREQ_KEY].view(np.int32) + np.int32(rotary_shift)
    tensors[INV_FREQ_KEY] = bits.view(np.float32)
    save_file(tensors, source / "model.safetensors")
    (source / "config.json").write_text((SMALL / "config.json").read_text())
    (source / "vocab.json").write_text("{}")

    code, report = convert(source, tmp_path / "flax", capsys=capsys)
    assert code == 0 and report["parameters"] == 217283 and report["dtype"] == "float32"
    assert (tmp_path / "flax" / "tokenizer" / "vocab.json").read_text() == "{}"
    options = ["--source", str(tmp_path / "flax"), "--output", str(tmp_path / "back")]
    assert flax_to_mdlm.main(options) == 0
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        assert back[key].dtype == np.float32 and back[key].tobytes() == value.tobytes(), key
    assert (tmp_path / "back" / "vocab.json").read_text() == "{}"
    # What was written is itself a source.
    assert convert(tmp_path / "back", tmp_path / "again") == 0
    hashes = [read_source(tmp_path / name)["backbone_hash"] for name in ("flax", "again")]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_half_precision_sources_are_stored_as_float32(tmp_path, state, dtype, kind):
    half = {key: value.to(dtype) for key, value in state.items()}
    if kind == "bin":
        torch.save(half, tmp_path / "pytorch_model.bin")
    else:
        save_torch_file(half, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((SMALL / "config.json").read_text())
    assert convert(tmp_path, tmp_path / "out") == 0
    for key, value in published(tmp_path / "out").items():
        if key != INV_FREQ_KEY:
            np.testing.assert_array_equal(value, half[key].float().numpy())


@pytest.mark.parametrize("ema", [False, True])
def test_a_lightning_file_gives_its_weights_or_its_averaged_ones(tmp_path, state, ema, capsys):
    order = [key for key in MDLM(**_sizes()).state_dict() if key != INV_FREQ_KEY]
    averaged = [state[key] * 0.5 for key in order]
    extra = {"noise.scale": torch.ones(1), "train_metrics.nll.total": torch.ones(1)}
    write_checkpoint(tmp_path / "last.ckpt", state | extra, averaged)
    options = ["--ema", "--verify"] if ema else ["--verify"]
    code = convert(tmp_path / "last.ckpt", tmp_path / "out", *options)
    printed = capsys.readouterr()
    assert code == 0 and json.loads(printed.out)["ema"] is ema
    assert "noise.scale, train_metrics.nll.total" in printed.err
    assert "model_length 1024 and time_conditioning false are assumed" in printed.err
    found = published(tmp_path / "out")
    for key in order:
        np.testing.assert_array_equal(found[key], state[key].numpy() * (0.5 if ema else 1.0))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["n_heads"] == 4 and config["n_blocks"] == 3 and config["cond_dim"] == 32


@pytest.mark.parametrize("beside", [False, True])
def test_a_lightning_file_takes_its_sizes_from_config_json(tmp_path, beside):
    tensors = torch.load(TIMECOND / "pytorch_model.bin", weights_only=True)
    write_checkpoint(tmp_path / "last.ckpt", tensors)
    text = (TIMECOND / "config.json").read_text()
    if beside:
        (tmp_path / "config.json").write_text(text)
        options = []
    else:
        (tmp_path / "sizes.json").write_text(text)
        options = ["--config-json", str(tmp_path / "sizes.json")]
    assert convert(tmp_path / "last.ckpt", tmp_path / "out", *options) == 0
    config, _ = read_backbone(tmp_path / "out")
    assert config.time_conditioning and config.model_length == 32


def test_a_hub_id_is_downloaded_at_its_revision(tmp_path, monkeypatch, capsys):
    commit = tmp_path / "0123abc"
    asked = []

    def download(hub_id, revision, allow_patterns):
        asked.append((hub_id, revision, allow_patterns[0]))
        commit.mkdir(exist_ok=True)
        name = "model.safetensors"  # this model's repository holds a pickle only
        if name not in allow_patterns:
            for file in ("pytorch_model.bin", "config.json"):
                (commit / file).write_bytes((TIMECOND / file).read_bytes())
        return str(commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    code, report = convert("some/model", tmp_path / "out", "--revision", "main", capsys=capsys)
    assert code == 0 and report["revision"] == "0123abc" and report["source"] == "some/model"
    assert asked == [
        ("some/model", "main", "model.safetensors"),
        ("some/model", "main", "pytorch_model.bin"),
    ]


@pytest.mark.parity
@pytest.mark.parametrize("source", [SMALL, TIMECOND])
def test_verify_reports_a_small_difference(source, tmp_path, capsys):
    code, report = convert(source, tmp_path / "out", "--verify", capsys=capsys)
    assert code == 0 and report["verify"]["passed"]
    assert 0 < report["verify"]["max_abs_diff_logits"] < 1e-4
    assert 0 < report["verify"]["max_abs_diff_hidden"] < 1e-4


@pytest.mark.parametrize("path", [("blocks_1", "mlp_in", "kernel"), ("final", "linear", "bias")])
def test_verify_fails_where_a_weight_differs(tmp_path, monkeypatch, capsys, path):
    load = to_flax.load_backbone

    def load_with_one_wrong_weight(*args, **options):
        model, params = load(*args, **options)
        branch = params
        for name in path[:-1]:
            branch = branch[name]
        branch[path[-1]] = branch[path[-1]] + 1e-3
        return model, params

    monkeypatch.setattr(to_flax, "load_backbone", load_with_one_wrong_weight)
    code, report = convert(SMALL, tmp_path / "out", "--verify", capsys=capsys)
    assert code == 1 and not report["verify"]["passed"]
    assert report["verify"]["max_abs_diff_logits"] > 1e-4
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_stored_rounded_and_loaded_as_float32(tmp_path, state):
    assert convert(SMALL, tmp_path / "out", "--dtype", "bfloat16") == 0
    found = published(tmp_path / "out")
    for key, value in state.items():
        if key != INV_FREQ_KEY:
            np.testing.assert_array_equal(found[key], value.bfloat16().float().numpy())


@pytest.mark.process
def test_safetensors_need_no_torch_and_the_last_line_is_json(tmp_path):
    """A real process, in which importing torch fails."""
    (tmp_path / "torch.py").write_text("raise ImportError('blocked by a test')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, ROOT / "convert" / "mdlm_to_flax.py", "--source", SMALL]
        + ["--output", tmp_path / "out"],
        env=os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["output"] == str(tmp_path / "out")
    assert "converting" in done.stderr
    read_backbone(tmp_path / "out")


@pytest.mark.slow
def test_random_checkpoints_are_repeatable_and_of_any_size(tmp_path, capsys):
    def make(name, *options):
        argv = ["--output", str(tmp_path / name), "--vocab-size", "40", "--n-blocks", "2"]
        assert random_checkpoint.main([*argv, *options]) == 0
        return json.loads(capsys.readouterr().out)

    first, same, other = make("a"), make("b"), make("c", "--seed", "1")
    assert first["sha256"] == same["sha256"] != other["sha256"]
    make("d", "--time-conditioning", "--hidden-dim", "32", "--n-heads", "2", "--cond-dim", "8")
    code, report = convert(tmp_path / "d", tmp_path / "out", "--verify", capsys=capsys)
    assert code == 0 and report["verify"]["passed"]
    config, params = read_backbone(tmp_path / "out")
    assert (config.vocab_size, config.hidden_dim, config.n_heads) == (40, 32, 2)
    assert config.time_conditioning
    assert report["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))


def _sizes():
    sizes = json.loads((SMALL / "config.json").read_text())
    names = ("vocab_size", "hidden_dim", "cond_dim", "n_blocks", "n_heads")
    return {name: sizes[name] for name in names}
