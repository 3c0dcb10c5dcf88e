"""Writes the bundled word-level tokenizer, in which every whole number to 999 is one token.

    python scripts/make_tiny_tokenizer.py [--output data/tiny_mdlm]

It covers the `countdown` and `arithmetic` tasks: the end of text (also the padding), a token for
everything unknown, signs, numbers, and the words of the arithmetic stories. There is no mask
token: the mask is the model's last id, which is the number of tokens here.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from reoac_jax.config import parse_options
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_json, write_text
from reoac_jax.tasks import stories

EOS, UNKNOWN = "<eos>", "<unk>"
SIGNS = ("+", "-", "*", "/", "=", ",", ";", "?", ".", "<<", ">>", "####")
LARGEST_NUMBER = 999


def build_tokenizer() -> Tokenizer:
    """The tokenizer: ids in the order eos, unknown, signs, numbers, words."""
    numbers = map(str, range(LARGEST_NUMBER + 1))
    texts = [EOS, UNKNOWN, *SIGNS, *numbers, *stories.words()]
    tokenizer = Tokenizer(
        models.WordLevel({text: index for index, text in enumerate(texts)}, unk_token=UNKNOWN)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), behavior="removed"),
            pre_tokenizers.Split(
                Regex(r"<<|>>|####|[0-9]+|[A-Za-z]+|[^\s0-9A-Za-z]"), behavior="isolated"
            ),
        ]
    )
    tokenizer.add_special_tokens([EOS, UNKNOWN])
    return tokenizer


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="data/tiny_mdlm", metavar="DIR", type=Path)
    output = parse_options(parser, argv).output
    tokenizer = build_tokenizer()
    write_text(output / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    write_json(
        output / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": EOS,
            "pad_token": EOS,
            "unk_token": UNKNOWN,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 256,
        },
    )
    print(json.dumps({"tokens": tokenizer.get_vocab_size(), "output": str(output)}))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
