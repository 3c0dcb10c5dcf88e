"""Checkpoints as training loops and wrappers leave them: read where they fit, and said so."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.converting import (
    SMALL,
    TIMECOND,
    changed,
    convert,
    golden_state,
    published,
    refused,
    write_folder,
)

from reoac_jax.backbone import read_backbone
from reoac_jax.backbone.mdlm.published import INV_FREQ_KEY
from reoac_jax.backbone.peft import Adapter, BaseModel, read_adapter, write_adapter
from reoac_jax.backbone.store import read_source
from reoac_jax.convert import mdlm_to_flax, peft_to_flax

CONFIG = ["--config-json", str(SMALL / "config.json")]


def assert_golden(output):
    """The folder holds the golden checkpoint's weights."""
    found = published(output)
    for key, value in golden_state().items():
        np.testing.assert_array_equal(found[key], value.numpy(), key)


def renamed(rename):
    return {rename(key): value for key, value in golden_state().items()}


WRAPPED = {
    "torch.compile": lambda key: f"_orig_mod.{key}",
    "DataParallel": lambda key: f"module.{key}",
    "an attribute": lambda key: f"model.{key}",
    "Fabric": lambda key: f"_forward_module.{key}",
    "in the middle": lambda key: key.replace("backbone.", "backbone._orig_mod."),
    "compiled blocks": lambda key: key.replace("norm1.", "_orig_mod.norm1."),
    "several": lambda key: f"_forward_module.model._orig_mod.module.{key}",
}


@pytest.mark.parametrize(
    "wrapper, kind",
    [*((wrapper, "safetensors") for wrapper in WRAPPED), ("several", "bin"), ("Fabric", "ckpt")],
)
def test_wrappers_are_left_out_of_the_keys(tmp_path, capsys, wrapper, kind):
    state = renamed(WRAPPED[wrapper])
    if kind == "ckpt":
        extra = {WRAPPED[wrapper]("noise.scale"): torch.ones(1)}
        torch.save({"state_dict": state | extra}, tmp_path / "last.ckpt")
        source = tmp_path / "last.ckpt"
    else:
        name = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[kind]
        source = write_folder(tmp_path / "source", state, name=name)
    assert convert(source, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "read without what wrapped the model" in said
    assert any(f"{WRAPPED[wrapper](key)} as {key}" in said for key in golden_state())
    for note in ("left out, not of the backbone", "noise.scale", "(or give --config-json)"):
        assert (note in said) == (kind == "ckpt")
    assert_golden(tmp_path / "out")


@pytest.mark.parametrize(
    "state, named",
    [
        (renamed(lambda key: f"_orig_mod.{key}") | {"head.weight": torch.ones(2)}, "unknown key"),
        (golden_state() | {f"module.{INV_FREQ_KEY}": torch.ones(8)}, "unknown key module."),
        (renamed(lambda key: f"teacher.{key}"), "unknown key teacher.backbone."),
    ],
    ids=["one key more", "a key twice", "an unknown wrapper"],
)
def test_what_does_not_fit_even_so_is_refused_with_the_way_out(tmp_path, capsys, state, named):
    source = write_folder(tmp_path / "source", state)
    argv = ["--source", source, "--output", tmp_path / "out"]
    line = refused(mdlm_to_flax.main, argv, named, tmp_path, capsys)
    assert "rename them in the file, or leave out what is not the model's" in line


@pytest.mark.parametrize(
    "name, under",
    [
        ("weights.pt", "state_dict"),
        ("step.ckpt", "model"),
        ("model.bin", "model_state_dict"),
        ("last.pth", "module"),
        ("weights.pt", None),
        ("step.ckpt", None),
    ],
)
def test_state_dicts_under_any_key_or_bare(tmp_path, name, under):
    state = golden_state()
    torch.save(state if under is None else {under: state, "step": 7}, tmp_path / name)
    assert convert(tmp_path / name, tmp_path / "out", *CONFIG) == 0
    assert_golden(tmp_path / "out")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".bin", ".pt", ".pth"])
def test_a_file_that_is_not_there_is_no_hub_id(tmp_path, capsys, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    argv = ["--source", f"runs/last{suffix}", "--output", tmp_path / "out"]
    named = f"source runs/last{suffix} does not exist"
    refused(mdlm_to_flax.main, argv, named, tmp_path, capsys)


def test_a_safetensors_file_by_itself(tmp_path):
    save_file(golden_state(), tmp_path / "epoch3.safetensors")
    assert convert(tmp_path / "epoch3.safetensors", tmp_path / "out", *CONFIG) == 0
    assert_golden(tmp_path / "out")


def test_a_safetensors_file_has_no_averages(tmp_path, capsys):
    save_file(golden_state(), tmp_path / "epoch3.safetensors")
    argv = ["--source", tmp_path / "epoch3.safetensors", "--output", tmp_path / "out", "--ema"]
    refused(mdlm_to_flax.main, argv, "has no ema.shadow_params", tmp_path, capsys)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_doubles_are_rounded_to_float32(tmp_path, name):
    doubles = {key: value.double() * (1 + 1e-12) for key, value in golden_state().items()}
    source = write_folder(tmp_path / "source", doubles, name=name)
    assert convert(source, tmp_path / "out") == 0
    assert_golden(tmp_path / "out")
    assert read_source(tmp_path / "out")["source_dtype"] == "float64"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_double_beyond_float32_is_refused(tmp_path, capsys, name):
    key = "backbone.output_layer.norm_final.weight"
    state = golden_state() | {key: torch.full((64,), 1e300, dtype=torch.float64)}
    source = write_folder(tmp_path / "source", state, name=name)
    argv = ["--source", source, "--output", tmp_path / "out"]
    refused(mdlm_to_flax.main, argv, f"{key} holds NaN or infinity", tmp_path, capsys)


def test_a_missing_rotary_buffer_is_computed(tmp_path, capsys):
    state = changed(**{INV_FREQ_KEY.replace(".", "__"): None})
    source = write_folder(tmp_path / "source", state)
    assert convert(source, tmp_path / "out", "--verify") == 0
    assert f"key {INV_FREQ_KEY} is missing: it is computed" in capsys.readouterr().err
    found = published(tmp_path / "out")
    expected = golden_state()[INV_FREQ_KEY].numpy()
    np.testing.assert_allclose(found[INV_FREQ_KEY], expected, rtol=1e-6)


def test_without_the_buffer_and_config_json_the_way_out_is_named(tmp_path, capsys):
    torch.save(changed(**{INV_FREQ_KEY.replace(".", "__"): None}), tmp_path / "last.ckpt")
    argv = ["--source", tmp_path / "last.ckpt", "--output", tmp_path / "out"]
    line = refused(mdlm_to_flax.main, argv, INV_FREQ_KEY, tmp_path, capsys)
    assert "--config-json FILE" in line
    assert convert(*argv[1::2], *CONFIG) == 0


def write_shards(folder, kind="safetensors"):
    """The golden checkpoint in three files and their index; the index's path."""
    folder.mkdir()
    state = golden_state()
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    weight_map = {}
    for shard in range(3):
        name = f"{stem}-{shard + 1:05d}-of-00003.{suffix}"
        part = {key: state[key] for key in list(state)[shard::3]}
        (save_file if kind == "safetensors" else torch.save)(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    (folder / "config.json").write_text((SMALL / "config.json").read_text())
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_read_by_their_index(tmp_path, kind):
    index = write_shards(tmp_path / "source", kind)
    assert convert(tmp_path / "source", tmp_path / "out") == 0
    assert_golden(tmp_path / "out")
    record = read_source(tmp_path / "out")
    assert record["weights"] == index.name and len(record["shards"]) == 3


def _remove_shard(index):
    (index.parent / "model-00002-of-00003.safetensors").unlink()


def _edit_index(change):
    def edit(index):
        values = json.loads(index.read_text())
        change(values["weight_map"])
        index.write_text(json.dumps(values))

    return edit


def _index_holding(value):
    return lambda index: index.write_text(json.dumps({"weight_map": value}))


FIRST = "model-00001-of-00003.safetensors"
SHARD_FAULTS = {
    "a file missing": (
        _remove_shard,
        "names 3 files, of which 1 are missing, such as model-00002-of-00003.safetensors; expected "
        "all of them beside it (fetch the rest)",
    ),
    "a file elsewhere": (_edit_index(lambda m: m.update({INV_FREQ_KEY: "../x"})), "'../x'"),
    "a key elsewhere": (
        _edit_index(lambda m: m.update({k: FIRST for k, v in m.items() if "00002" in v})),
        "index.json says it has; expected both of one save (fetch them again)",
    ),
    "a key not listed": (
        _edit_index(lambda m: m.pop(INV_FREQ_KEY)),
        "index.json says nothing; expected both of one save (fetch them again)",
    ),
    "an empty index": (_edit_index(dict.clear), "has no weight_map"),
    "no weight_map": (lambda index: index.write_text('{"metadata": {}}'), "has no weight_map"),
    "a weight_map that is no dict": (_index_holding([FIRST]), "has no weight_map"),
    "a weight_map that is a number": (_index_holding(3), "has no weight_map"),
    "a shard name that is no string": (
        _edit_index(lambda m: m.update({INV_FREQ_KEY: 3})),
        f"{INV_FREQ_KEY} lies in 3; expected a file's name",
    ),
    "a shard name that is a list": (
        _edit_index(lambda m: m.update({INV_FREQ_KEY: [FIRST]})),
        f"{INV_FREQ_KEY} lies in ['{FIRST}']",
    ),
    "an index that is no object": (lambda index: index.write_text("[]"), "holds no JSON object"),
}


@pytest.mark.parametrize("fault", SHARD_FAULTS)
def test_shards_that_are_not_whole_are_refused(tmp_path, capsys, fault):
    damage, named = SHARD_FAULTS[fault]
    damage(write_shards(tmp_path / "source"))
    argv = ["--source", tmp_path / "source", "--output", tmp_path / "out"]
    refused(mdlm_to_flax.main, argv, named, tmp_path, capsys)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_given_by_their_folder_and_without_options_of_single_files(
    tmp_path, capsys, kind
):
    index = write_shards(tmp_path / "source", kind)
    argv = ["--source", index, "--output", tmp_path / "out"]
    refused(
        mdlm_to_flax.main, argv, f"is a file; give its folder, {index.parent}", tmp_path, capsys
    )
    argv[1] = index.parent
    for option in (["--ema"], CONFIG):
        named = f"{option[0]} is for a Lightning .ckpt, which {index} is not"
        refused(mdlm_to_flax.main, [*argv, *option], named, tmp_path, capsys)


@pytest.fixture(scope="module")
def timecond(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timecond") / "flax"
    assert convert(TIMECOND, folder) == 0
    return folder


@pytest.fixture
def adapter(timecond, tmp_path):
    """An adapter folder, its overlay, and the sizes it goes with."""
    config, params = read_backbone(timecond)
    rng = np.random.default_rng(0)
    overlay = {}
    for path in ("blocks_0/attn_qkv/kernel", "final/linear/kernel"):
        layer = params
        for name in path.split("/"):
            layer = layer[name]
        inputs, outputs = layer.shape
        overlay[path] = {
            "a": rng.standard_normal((inputs, 2)).astype(np.float32),
            "b": rng.standard_normal((2, outputs)).astype(np.float32),
        }
    folder = tmp_path / "adapter"
    folder.mkdir()
    write_adapter(folder, config, Adapter(overlay, 0.5, 0.0), BaseModel(None, None))
    return folder, overlay, config


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key,
        lambda key: key.replace(".weight", ".default.weight"),
        lambda key: key.replace("base_model.model.", "base_model.model._orig_mod.module."),
        lambda key: f"_orig_mod.module.{key}",
    ],
    ids=["plain", "default", "wrapped", "wrapped with PEFT's own part"],
)
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_adapters_of_older_and_inner_names(adapter, timecond, tmp_path, kind, rename):
    folder, overlay, config = adapter
    file = folder / "adapter_model.safetensors"
    tensors = {rename(key): value for key, value in load_file(file).items()}
    if kind == "bin":
        file.unlink()
        torch.save(tensors, folder / "adapter_model.bin")
    else:
        save_file(tensors, file)
    found = read_adapter(folder, config).overlay
    assert found.keys() == overlay.keys()
    for path, pair in overlay.items():
        for name in pair:
            np.testing.assert_array_equal(found[path][name], pair[name])
    options = ["--adapter", folder, "--base", timecond, "--output", tmp_path / "merged"]
    assert peft_to_flax.main([str(option) for option in options]) == 0
    assert read_source(tmp_path / "merged")["weights"] == f"adapter_model.{kind}"


def test_an_adapter_with_a_weight_twice_or_none_or_other_keys_is_refused(
    adapter, timecond, tmp_path, capsys
):
    folder, _, _ = adapter
    argv = ["--adapter", folder, "--base", timecond, "--output", tmp_path / "merged"]
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    key = next(iter(tensors))
    save_file(tensors | {key.replace(".weight", ".default.weight"): tensors[key].clone()}, file)
    refused(peft_to_flax.main, argv, "under another name too", tmp_path, capsys)
    save_file(
        {key.removeprefix("base_model.model."): value for key, value in tensors.items()}, file
    )
    line = refused(peft_to_flax.main, argv, "is no LoRA weight of the backbone", tmp_path, capsys)
    assert "expected keys such as base_model.model.backbone." in line
    file.unlink()
    line = refused(peft_to_flax.main, argv, "adapter_model.bin", tmp_path, capsys)
    assert "adapter_model.safetensors" in line


FOLDERS = ["plain", 'it\'s a "quoted" one; $(touch pwned) `touch pwned`;&']


@pytest.mark.process
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_command_that_keeps_the_tensors_alone_can_be_pasted(tmp_path, capsys, folder):
    """Run by a shell, from a folder whose name the shell would take apart or run."""
    place = tmp_path / folder
    place.mkdir()
    source = place / "last.ckpt"
    arguments = argparse.Namespace(lr=1)
    torch.save({"model": golden_state(), "args": arguments}, source)
    argv = ["--source", source, "--output", tmp_path / "out", *CONFIG]
    line = refused(mdlm_to_flax.main, argv, "argparse.Namespace", tmp_path, capsys)
    command = line.partition("write its tensors alone with: ")[2]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(["bash", "-c", command], check=True, cwd=tmp_path, env=environment)
    assert not list(tmp_path.rglob("pwned"))
    assert convert(place / "last-tensors.ckpt", tmp_path / "out", *CONFIG) == 0
    assert_golden(tmp_path / "out")
