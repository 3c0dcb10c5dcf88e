"""The tokenizer is the one that `AutoTokenizer` would give, without importing torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from reoac_jax.system.errors import InputError
from reoac_jax.tasks.tokenizer import load_tokenizer, read_tokenizer

ROOT = Path(__file__).resolve().parents[2]


def same(one: PreTrainedTokenizerFast, other: PreTrainedTokenizerFast) -> bool:
    return (
        type(one) is type(other)
        and one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()
        and one.special_tokens_map == other.special_tokens_map
        and len(one) == len(other)
    )


@pytest.fixture
def tiny(tmp_path) -> Path:
    """The bundled tokenizer in a folder of its own, as the converter writes it."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "data" / "tiny_mdlm" / name, tmp_path / name)
    return tmp_path


def test_the_bundled_tokenizer(tiny):
    one, other = read_tokenizer(str(tiny)), AutoTokenizer.from_pretrained(tiny)
    assert same(one, other) or one.get_vocab() == other.get_vocab()
    text = "8 14 15 = 2 ? 15 - 13 = 2"
    assert one(text)["input_ids"] == other(text)["input_ids"]
    assert one.all_special_ids == other.all_special_ids


def test_gpt2(shared_data):
    place = str(shared_data / "gpt2")
    assert same(read_tokenizer(place), AutoTokenizer.from_pretrained(place))


@pytest.mark.process
def test_torch_stays_out(tiny):
    command = (
        "import sys; from reoac_jax.tasks.tokenizer import load_tokenizer;"
        "load_tokenizer('mdlm', sys.argv[1], ''); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", command, str(tiny)], cwd=ROOT).returncode == 0


def test_a_configuration_that_is_no_object_is_refused(tiny):
    (tiny / "tokenizer_config.json").write_text(json.dumps(["GPT2Tokenizer"]))
    with pytest.raises(InputError, match="no tokenizer could be loaded from.*no JSON object"):
        load_tokenizer("mdlm", str(tiny), "")
