"""Layouts on disk have numbers; one that is not read is refused by its number."""

import json
import shutil

import numpy as np
import pytest
from support import toy

from reoac_jax.backbone import load_backbone
from reoac_jax.config import base, load_config, to_json, validate
from reoac_jax.runs.checkpoints import RunCheckpoints, read_record
from reoac_jax.system import formats
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import write_json


def refusal(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_run_of_the_first_format_is_refused_by_its_number(tmp_path):
    values = to_json(validate(base()))
    assert values[formats.KEY] == formats.RUN
    write_json(tmp_path / "config.json", values)
    assert load_config(tmp_path / "config.json") == validate(base())
    del values[formats.KEY]
    write_json(tmp_path / "config.json", values)
    line = refusal(load_config, tmp_path / "config.json")
    assert "config.json has format 1, which reoac_jax 0.1 reads; expected format 2" in line


@pytest.mark.parametrize("number", [None, 3, "x", True])
def test_a_checkpoint_of_another_format_is_refused_by_its_number(tmp_path, number):
    record = {"iteration": 0, "base_hash": "0"} | ({} if number is None else {"format": number})
    with RunCheckpoints(tmp_path / "checkpoints", 1, 1) as run:
        run.save(0, {"actor": {"w": np.ones(3)}}, record, 0.0)
    checkpoint = tmp_path / "checkpoints" / "0"
    if number is None:  # as version 0.1 wrote it
        assert read_record(checkpoint)["format"] == formats.RUN
        file = checkpoint / "record" / "metadata"
        stored = json.loads(file.read_text())
        del stored["format"]
        file.write_text(json.dumps(stored))
    line = refusal(read_record, checkpoint)
    by = "another reoac_jax" if number in (3, "x") else "reoac_jax 0.1"
    found = 1 if number is None else number
    assert f"{checkpoint} has format {found}, which {by} reads; expected format 2" in line


def test_a_backbone_of_the_first_format_is_read_and_a_later_one_refused(tmp_path):
    """The first had no number, no model_type in config.json, and a key for MDLM's buffer."""
    folder = toy.word_backbone(tmp_path / "new")
    old = shutil.copytree(folder, tmp_path / "old")
    source = json.loads((old / "source.json").read_text())
    assert source.pop("format") == formats.BACKBONE
    write_json(old / "source.json", source | {"rotary_inv_freq": [1.0, 0.5, 0.25, 0.125]})
    config = json.loads((old / "config.json").read_text())
    del config["model_type"], config["architectures"]
    write_json(old / "config.json", config)
    models = [load_backbone(path)[0] for path in (folder, old)]
    assert models[0] == models[1]

    write_json(folder / "source.json", source | {"format": 3})
    line = refusal(load_backbone, folder)
    assert "new has format 3, which another reoac_jax reads; expected format 1 or 2" in line
