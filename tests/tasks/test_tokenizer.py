"""The tokenizer is the one that `AutoTokenizer` would give, without torch and strangers' code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from reoac_jax.system.errors import InputError
from reoac_jax.tasks.prompting import end_ids
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


END, TURN_END, MASK = 258, 260, 261


@pytest.fixture
def own_class(tmp_path, monkeypatch):
    """Writes a folder as the hub has Dream's: a class of its own, as code; returns it.

    The code leaves a file `ran`, and whoever is asked whether it may run says yes.
    """
    monkeypatch.setattr("builtins.input", lambda *_: "y")

    def write(name: str, *left_out: str) -> Path:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocab = {text: i for i, text in enumerate([*alphabet, "12", "\u0120a"])}
        special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|mask|>")
        added = {text: i for i, text in enumerate(special, END)}
        config = {
            "added_tokens_decoder": {
                str(i): {"content": text, "special": True} for text, i in added.items()
            },
            "auto_map": {"AutoTokenizer": [f"own.{name}", None]},
            "eos_token": "<|endoftext|>",
            "mask_token": "<|mask|>",
            "pad_token": "<|endoftext|>",
            "tokenizer_class": name,
        }
        (tmp_path / "vocab.json").write_text(json.dumps(vocab))
        (tmp_path / "merges.txt").write_text("#version: 0.2\n1 2\n\u0120 a\n")
        (tmp_path / "added_tokens.json").write_text(json.dumps(added))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}<|im_end|>")
        code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass {name}: pass\n"
        (tmp_path / "own.py").write_text(code)
        for file in left_out:
            (tmp_path / file).unlink()
        return tmp_path

    return write


def test_dreams_own_class_is_read_as_qwen2s_and_its_code_is_not_run(own_class):
    folder = own_class("DreamTokenizer")
    tokenizer = load_tokenizer("mdlm", str(folder), "")
    assert isinstance(tokenizer, Qwen2Tokenizer) and not (folder / "ran").exists()
    assert tokenizer.chat_template == "{{ messages[0].content }}<|im_end|>"
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (END, END)
    assert (tokenizer.mask_token_id, len(tokenizer)) == (MASK, MASK + 1)
    # As Qwen2's pattern has it: a word with the space before it, each digit alone; NFC.
    text = "a a 12<|im_end|>e\u0301"
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(tokens) == (
        ["a", "\u0120a", "\u0120", "1", "2", "<|im_end|>", "\u00c3", "\u00a9"]
    )
    assert TURN_END in tokens


def test_another_class_of_its_own_is_refused_unless_one_file_says_it_all(own_class):
    folder = own_class("StrangeTokenizer")
    with pytest.raises(InputError, match=r"names StrangeTokenizer, .* never run; expected tok"):
        load_tokenizer("mdlm", str(folder), "")
    whole = load_tokenizer("mdlm", str(own_class("DreamTokenizer")), "")
    own_class("StrangeTokenizer")
    whole.backend_tokenizer.save(str(folder / "tokenizer.json"))
    found = load_tokenizer("mdlm", str(folder), "")
    assert found("a 12<|im_end|>")["input_ids"] == whole("a 12<|im_end|>")["input_ids"]
    assert found.eos_token_id == END and not (folder / "ran").exists()


def test_the_models_own_ids_of_eos_and_padding_go_first(own_class):
    folder = own_class("DreamTokenizer")
    tokenizer = load_tokenizer("mdlm", str(folder), "", eos_id=TURN_END, pad_id=None)
    assert (tokenizer.eos_token, tokenizer.pad_token_id) == ("<|im_end|>", END)
    assert end_ids(tokenizer) == {END, TURN_END}
    tokenizer = load_tokenizer("mdlm", str(folder), "", eos_id=END, pad_id=TURN_END)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (END, TURN_END)
    with pytest.raises(InputError, match=r"of folder says eos_token_id 262, but .* has 262 ids"):
        load_tokenizer("mdlm", str(folder), "folder", eos_id=MASK + 1)


def test_config_json_can_name_the_eos_that_the_tokenizer_lacks(tiny):
    values = json.loads((tiny / "tokenizer_config.json").read_text())
    own = read_tokenizer(str(tiny)).eos_token_id
    del values["eos_token"]
    (tiny / "tokenizer_config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="no eos token"):
        load_tokenizer("mdlm", str(tiny), "")
    assert load_tokenizer("mdlm", str(tiny), "", eos_id=own).eos_token_id == own


@pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
def test_a_vocabulary_without_its_other_file_is_refused(own_class, file):
    folder = own_class("DreamTokenizer", file)
    with pytest.raises(InputError, match="lies in tokenizer.json, or vocab.json and merges.txt"):
        load_tokenizer("mdlm", str(folder), "")


def test_added_tokens_that_would_be_other_ids_are_refused(own_class):
    folder = own_class("DreamTokenizer")
    vocab = json.loads((folder / "vocab.json").read_text())
    del vocab["12"]
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n\u0120 a\n")
    with pytest.raises(InputError, match=r"says that <\|endoftext\|> is 258, but .* it is 257"):
        load_tokenizer("mdlm", str(folder), "")


def test_a_configuration_alone_is_no_tokenizer(tiny):
    (tiny / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="lies in tokenizer.json"):
        load_tokenizer("mdlm", str(tiny), "")
