"""A relative path that is not there is reported with the folder it was looked for in."""

import os

import pytest

from reoac_jax.backbone.pytorch_files import find_source
from reoac_jax.backbone.store import read_backbone
from reoac_jax.config import load_config
from reoac_jax.finetuning.nelbo import text_blocks
from reoac_jax.runs.checkpoints import find_checkpoint
from reoac_jax.runs.folder import run_config
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import looked_in
from reoac_jax.system.json_files import read_json_object
from reoac_jax.tasks.dataset import read_problems, read_rows

READERS = {
    "configuration": load_config,
    "converted backbone": read_backbone,
    "PyTorch checkpoint": find_source,
    "checkpoint": find_checkpoint,
    "run": run_config,
    "problems": lambda path: read_problems(path, "gsm8k"),
    "rows": lambda path: list(read_rows(path)),
    "JSON": lambda path: read_json_object(path, "anything"),
    "text": lambda path: text_blocks(path, None, 8),
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_says_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = os.path.join("some", "where.bin" if "PyTorch" in name else "where")
    with pytest.raises(InputError) as caught:
        READERS[name](path)
    message = str(caught.value)
    assert path in message and f" in {tmp_path}" in message and "\n" not in message
    with pytest.raises(InputError) as caught:
        READERS[name](str(tmp_path / path))
    assert f" in {tmp_path}" not in str(caught.value)  # the path says it itself


def test_what_is_there_needs_no_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("")
    assert looked_in("here") == "" == looked_in(tmp_path / "absent")
    assert looked_in("absent") == f" in {tmp_path}"
