"""The golden checkpoints as files, whole or spoilt, and the converters run on them."""

import hashlib
import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from reoac_jax.backbone import read_backbone
from reoac_jax.backbone.published import from_flax
from reoac_jax.convert import mdlm_to_flax
from reoac_jax.system.errors import run_command

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SMALL, TIMECOND = GOLDEN / "mdlm_small", GOLDEN / "mdlm_small_timecond"


def convert(source, output, *options, capsys=None):
    """Runs the converter; its exit code and, with `capsys`, the JSON object it prints."""
    code = mdlm_to_flax.main(["--source", str(source), "--output", str(output), *options])
    return code if capsys is None else (code, json.loads(capsys.readouterr().out))


def published(output):
    """A converted folder's weights under their published keys."""
    config, params = read_backbone(output)
    return from_flax(config, params)


def on_disk(folder):
    """Every path below `folder`, hidden ones too, with the contents' hash."""
    return {
        path.relative_to(folder): path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


# What a refusal ends with: what to give instead, or to do.
_WAY_OUT = re.compile(r"[;:,] expected |; give |; pip install |; copy |tensors alone with: ")


def refused(main, argv, named, folder, capsys):
    """Runs a command line that must be refused; its one line."""
    before = on_disk(folder)
    code = run_command(main, [str(argument) for argument in argv])
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and printed.err.endswith(lines[0] + "\n")
    assert named in lines[0]
    assert _WAY_OUT.search(lines[0])
    assert on_disk(folder) == before
    return lines[0]


def golden_state():
    return load_file(SMALL / "model.safetensors")


def write_folder(folder, state=None, *, config=None, data=None, name="model.safetensors"):
    """A source folder holding `state`, or raw `data`, and the golden config with changes."""
    folder.mkdir()
    if data is not None:
        (folder / name).write_bytes(data)
    elif name == "model.safetensors":
        save_file(state, folder / name)
    else:
        torch.save(state, folder / name)
    values = json.loads((SMALL / "config.json").read_text()) | (config or {})
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def changed(**changes):
    """The golden state dict with keys (dots as double underscores) replaced, None removing one."""
    state = golden_state()
    for key, value in changes.items():
        key = key.replace("__", ".")
        state[key] = value(state.get(key)) if value else None
    return {key: value for key, value in state.items() if value is not None}
