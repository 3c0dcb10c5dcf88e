"""Bad input to the converter: exit 2, one line that names it, nothing new on disk."""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from support.converting import SMALL, changed, golden_state, on_disk, refused, write_folder

from reoac_jax.convert import flax_to_mdlm, mdlm_to_flax
from scripts import random_checkpoint

ROOT = Path(__file__).resolve().parents[2]
QKV = "backbone.blocks.1.attn_qkv.weight"
INV_FREQ = "backbone.rotary_emb.inv_freq"


def _nan(value):
    value = value.clone()
    value[5] = float("nan")
    return value


NORM = "backbone__output_layer__norm_final__weight"
TENSOR_FAULTS = {
    "unknown key": (lambda: changed(backbone__extra__weight=lambda _: torch.ones(2)), "extra"),
    "key outside the backbone": (lambda: changed(head__weight=lambda _: torch.ones(2)), "head"),
    "block too many": (
        lambda: changed(backbone__blocks__3__norm1__weight=lambda _: torch.ones(64)),
        "backbone.blocks.3.norm1.weight",
    ),
    "missing key": (lambda: changed(**{QKV.replace(".", "__"): None}), QKV),
    "transposed": (
        lambda: changed(**{QKV.replace(".", "__"): lambda x: x.T.contiguous()}),
        f"{QKV} has shape [64, 192]; expected [192, 64]",
    ),
    "other rotary base": (
        lambda: changed(**{INV_FREQ.replace(".", "__"): lambda x: x * 1.01}),
        INV_FREQ,
    ),
    "integers": (lambda: changed(**{NORM: lambda x: x.long()}), "norm_final.weight is stored as"),
    "float8": (
        lambda: changed(**{NORM: lambda x: x.to(torch.float8_e4m3fn)}),
        "norm_final.weight is stored as",
    ),
    "NaN": (lambda: changed(**{NORM: _nan}), "norm_final.weight holds NaN"),
}


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("fault", TENSOR_FAULTS)
def test_bad_tensors(tmp_path, capsys, fault, name):
    make, named = TENSOR_FAULTS[fault]
    source = write_folder(tmp_path / "source", make(), name=name)
    refused(
        mdlm_to_flax.main,
        ["--source", source, "--output", tmp_path / "out"],
        named,
        tmp_path,
        capsys,
    )


def _pickle_bytes(value, legacy=False):
    import io

    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _zip_bytes():
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    return buffer.getvalue()


class Malicious:
    """Unpickled without care it would write a file into the working directory."""

    def __reduce__(self):
        return (open, ("was_run", "w"))


FILE_FAULTS = {
    "truncated": lambda name: _golden_bytes(name)[:-1000],
    "truncated to its start": lambda name: _golden_bytes(name)[:100],
    "empty": lambda name: b"",
    "text": lambda name: b"this is no checkpoint\n" * 50,
    "noise": lambda name: np.random.default_rng(0).bytes(5000),
    "another zip": lambda name: _zip_bytes(),
}


def _golden_bytes(name):
    if name == "model.safetensors":
        return (SMALL / name).read_bytes()
    return _pickle_bytes(golden_state())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "last.ckpt"])
@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_bad_files(tmp_path, capsys, fault, name):
    data = FILE_FAULTS[fault](name)
    source = write_folder(tmp_path / "source", data=data, name=name)
    given = source / name if name.endswith(".ckpt") else source
    argv = ["--source", given, "--output", tmp_path / "out"]
    line = refused(mdlm_to_flax.main, argv, name, tmp_path, capsys)
    assert "expected a whole one (fetch or save it again)" in line


PICKLE_FAULTS = {
    "a list": ([torch.ones(2)], "no state dict"),
    "empty dict": ({}, "no state dict"),
    "number among tensors": (
        {"step": 3},
        "step holds int; expected tensors by key, there or under state_dict or model_state_dict or",
    ),
    "truncated old format": (None, "pytorch_model.bin"),
    "code": ({"x": Malicious()}, "more than tensors"),
    "code in the old format": (Malicious(), "weights_only"),
}


@pytest.mark.parametrize("fault", PICKLE_FAULTS)
def test_bad_pickles(tmp_path, capsys, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    value, named = PICKLE_FAULTS[fault]
    data = (
        _pickle_bytes(golden_state(), legacy=True)[:-5000]
        if value is None
        else _pickle_bytes(value, legacy="old" in fault)
    )
    source = write_folder(tmp_path / "source", data=data, name="pytorch_model.bin")
    argv = ["--source", source, "--output", tmp_path / "out"]
    refused(mdlm_to_flax.main, argv, named, tmp_path, capsys)


def _ckpt(state=None, shadow=None, **more):
    value = {"state_dict": golden_state() if state is None else state} | more
    return value if shadow is None else value | {"ema": {"shadow_params": shadow}}


def _averages():
    from reoac_jax.backbone import BackboneConfig
    from reoac_jax.backbone.published import weights

    config = BackboneConfig.from_json(json.loads((SMALL / "config.json").read_text()))
    state = golden_state()
    return [state[weight.key] for weight in weights(config)]


LIGHTNING_FAULTS = {
    "no state dict": (lambda: {"epoch": 3}, [], "state_dict"),
    "state dict is a list": (lambda: {"state_dict": [1]}, [], "state_dict"),
    "another model": (lambda: _ckpt({"model.weight": torch.ones(2)}), [], "--config-json FILE"),
    "an embedding without rank": (
        lambda: _ckpt(changed(backbone__vocab_embed__embedding=lambda x: x[0])),
        [],
        "backbone.vocab_embed.embedding",
    ),
    "unknown key": (lambda: _ckpt(changed(teacher__w=lambda _: torch.ones(2))), [], "teacher.w"),
    "no average": (_ckpt, ["--ema"], "ema.shadow_params"),
    "average too short": (lambda: _ckpt(shadow=_averages()[:-1]), ["--ema"], "holds 39"),
    "average out of order": (
        lambda: _ckpt(shadow=[_averages()[1], _averages()[0], *_averages()[2:]]),
        ["--ema"],
        "shadow_params[0]",
    ),
    "average holds a number": (
        lambda: _ckpt(shadow=[1.0, *_averages()[1:]]),
        ["--ema"],
        "shadow_params[0]",
    ),
    "sizes absent": (_ckpt, ["--config-json", "absent.json"], "absent.json"),
}


@pytest.mark.parametrize("fault", LIGHTNING_FAULTS)
def test_bad_lightning_files(tmp_path, capsys, fault):
    make, options, named = LIGHTNING_FAULTS[fault]
    torch.save(make(), tmp_path / "last.ckpt")
    argv = ["--source", tmp_path / "last.ckpt", "--output", tmp_path / "out", *options]
    refused(mdlm_to_flax.main, argv, named, tmp_path, capsys)


@pytest.mark.process
def test_a_checkpoint_that_needs_more_is_refused_and_the_advice_works(tmp_path, capsys):
    source = tmp_path / "last.ckpt"
    torch.save(_ckpt(shadow=_averages(), hyper_parameters=argparse.Namespace(lr=1)), source)
    argv = ["--source", source, "--output", tmp_path / "out"]
    line = refused(mdlm_to_flax.main, argv, "argparse.Namespace", tmp_path, capsys)
    words = shlex.split(line.partition("write its tensors alone with: ")[2])
    subprocess.run([sys.executable, *words[1:]], check=True, cwd=tmp_path)
    argv[1] = tmp_path / "last-tensors.ckpt"
    assert mdlm_to_flax.main([str(argument) for argument in [*argv, "--ema"]]) == 0


CONFIG_FAULTS = {
    "absent": (None, "config.json is missing; expected it beside model.safetensors"),
    "cut": ('{"vocab_size": 1', "config.json cannot be read"),
    "not UTF-8": (b"\xff\xfe\x00", "config.json cannot be read"),
    "a list": ("[1]", "config.json holds no JSON object"),
    "a field missing": ({"n_heads": None}, "n_heads"),
    "a field of another type": ({"n_blocks": "3"}, "n_blocks is '3'"),
    "more blocks than the file": ({"n_blocks": 4}, "backbone.blocks.3.norm1.weight is missing"),
    "fewer blocks": ({"n_blocks": 2}, "unknown key backbone.blocks.2."),
    "another width": ({"hidden_dim": 128}, "vocab_embed.embedding has shape [131, 64]"),
    "other heads": ({"n_heads": 2}, f"{INV_FREQ} has shape [8]; expected [16]"),
    "heads that do not divide": ({"n_heads": 5}, "n_heads"),
}


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_bad_configs(tmp_path, capsys, fault):
    value, named = CONFIG_FAULTS[fault]
    changes = value if isinstance(value, dict) else {}
    source = write_folder(tmp_path / "source", golden_state(), config=changes)
    if value is None:
        (source / "config.json").unlink()
    elif not isinstance(value, dict):
        data = value if isinstance(value, bytes) else value.encode()
        (source / "config.json").write_bytes(data)
    argv = ["--source", source, "--output", tmp_path / "out"]
    refused(mdlm_to_flax.main, argv, named, tmp_path, capsys)


@pytest.mark.parametrize(
    "argv, named",
    [
        (["--source", "absent/folder/x", "--output", "out"], "absent/folder/x does not exist"),
        (["--source", "absent.ckpt", "--output", "out"], "absent.ckpt does not exist"),
        (
            ["--source", "empty", "--output", "out"],
            "empty holds neither model.safetensors nor pytorch_model.bin, nor",
        ),
        (["--source", SMALL / "model.safetensors", "--output", "out"], "give its folder"),
        (["--source", SMALL, "--output", "full"], "full already holds something"),
        (["--source", SMALL, "--output", "full/file"], "full/file is a file"),
        (["--source", SMALL, "--output", "full/file/out"], "full/file/out cannot be written"),
        (["--source", SMALL, "--output", "out", "--ema"], "--ema"),
        (["--source", SMALL, "--output", "out", "--revision", "main"], "--revision main"),
        (["--source", SMALL, "--output", "out", "--config-json", "c"], "--config-json"),
        (["--source", SMALL, "--output", "out", "--verify", "--dtype", "bfloat16"], "--dtype"),
    ],
)
def test_bad_arguments(tmp_path, capsys, monkeypatch, argv, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    refused(mdlm_to_flax.main, argv, named, tmp_path, capsys)


@pytest.mark.parametrize(
    "main, argv, named",
    [
        (flax_to_mdlm.main, ["--source", "absent", "--output", "out"], "absent does not exist"),
        (flax_to_mdlm.main, ["--source", SMALL, "--output", "out"], "is a PyTorch checkpoint"),
        (flax_to_mdlm.main, ["--source", SMALL, "--output", "full"], "full already holds"),
        (random_checkpoint.main, ["--output", "full"], "full already holds"),
        (random_checkpoint.main, ["--output", "out", "--seed", "-1"], "--seed"),
        (random_checkpoint.main, ["--output", "out", "--n-heads", "5"], "n_heads"),
        (random_checkpoint.main, ["--output", "out", "--n-blocks", "0"], "n_blocks is 0"),
    ],
)
def test_bad_arguments_of_the_other_commands(tmp_path, capsys, monkeypatch, main, argv, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    refused(main, argv, named, tmp_path, capsys)


@pytest.mark.parametrize("options", [["--verify"], []])
def test_without_torch_the_extra_is_named(tmp_path, capsys, monkeypatch, options):
    source = SMALL
    if not options:
        source = write_folder(tmp_path / "source", golden_state(), name="pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it now fails
    argv = ["--source", source, "--output", tmp_path / "out", *options]
    refused(mdlm_to_flax.main, argv, 'pip install "reoac-jax[convert]"', tmp_path, capsys)


@pytest.mark.parametrize("source", [[], ["--source", "some/model"]])
def test_an_unreachable_hub_names_the_local_alternatives(tmp_path, capsys, monkeypatch, source):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    argv = [*source, "--output", tmp_path / "out"]
    line = refused(mdlm_to_flax.main, argv, "hub cannot be reached", tmp_path, capsys)
    assert "--source FOLDER" in line and "--source FILE.ckpt" in line
    assert (source or ["", "kuleshov-group/mdlm-owt"])[1] in line


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5e5))
    argv = ["--source", SMALL, "--output", tmp_path / "out"]
    line = refused(mdlm_to_flax.main, argv, "1 MB are needed", tmp_path, capsys)
    assert f"output {tmp_path / 'out'} cannot be written" in line


@pytest.mark.process
@pytest.mark.parametrize("command", ["mdlm_to_flax", "flax_to_mdlm"])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, command):
    """A real process under a limit on the size of a file, which fails as a full disk does."""
    source = SMALL
    if command == "flax_to_mdlm":
        source = tmp_path / "flax"
        assert mdlm_to_flax.main(["--source", str(SMALL), "--output", str(source)]) == 0
    before = on_disk(tmp_path)
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 50; exec "$@"', "bash", sys.executable]
        + [ROOT / "convert" / f"{command}.py", "--source", source, "--output", tmp_path / "out"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"error: output {tmp_path / 'out'} cannot be")
    assert "Traceback" not in done.stderr
    assert on_disk(tmp_path) == before


@pytest.mark.process
def test_the_process_itself_exits_with_2(tmp_path):
    """On a file that native code reads, which has a standard error of its own."""
    data = (SMALL / "model.safetensors").read_bytes()[:-1]
    source = write_folder(tmp_path / "source", data=data)
    before = on_disk(tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "convert" / "mdlm_to_flax.py", "--source", source]
        + ["--output", tmp_path / "out"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert "model.safetensors" in done.stderr
    assert on_disk(tmp_path) == before
