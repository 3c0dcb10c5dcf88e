"""The tokenizer: its type, without the time that its library takes to import, and its loading."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Tokenizer: TypeAlias = PreTrainedTokenizerBase
else:
    Tokenizer = Any

_CONFIG, _WHOLE, _PARTS = "tokenizer_config.json", "tokenizer.json", ("vocab.json", "merges.txt")
# Loaded by their own names. `AutoTokenizer` gives the same, and imports torch where it is
# installed, which takes a second and is needed for nothing here.
_OF_ONE_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
_OF_PARTS = ("GPT2Tokenizer", "GPT2TokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast")
# Classes that are published as code beside the weights, and do what one of transformers' own does:
# Dream's has Qwen2's files, pattern and normalisation (tokenization_dream.py).
_SAME_AS = {"DreamTokenizer": "Qwen2Tokenizer"}


def read_tokenizer(place: str) -> Tokenizer:
    """The tokenizer of a hub id or a local folder, of whatever kind; code beside it is never run.

    Raises what its library does, and `InputError` for a configuration that is no JSON object, for
    files that are not all there, and for a class that only code beside the files defines, where
    `tokenizer.json` does not say it all.
    """
    import transformers

    config = Path(place) / _CONFIG
    if config.is_file():
        values = read_json_object(config, "a tokenizer's configuration")
        named = str(values.get("tokenizer_class"))
        name = _SAME_AS.get(named, named)
        is_whole = (Path(place) / _WHOLE).is_file()
        if "auto_map" in values and is_whole and not hasattr(transformers, name):
            name = _OF_ONE_FILE[0]
        if name in (*_OF_ONE_FILE, *_OF_PARTS):
            # Without them the library gives a tokenizer of one token, or a line that names no file.
            parts = name in _OF_PARTS and all((Path(place) / part).is_file() for part in _PARTS)
            if not is_whole and not parts:
                other = f", or {' and '.join(_PARTS)}" if name in _OF_PARTS else ""
                raise InputError(f"a {named} lies in {_WHOLE}{other}; expected it there")
            tokenizer: Tokenizer = getattr(transformers, name).from_pretrained(place)
            _check_ids(tokenizer, values)
            return tokenizer
        if "auto_map" in values and not hasattr(transformers, name):
            raise InputError(
                f"{_CONFIG} names {name}, which is code that comes with the model and is never "
                f"run; expected {_WHOLE} beside it, as `save_pretrained` of a fast tokenizer "
                "writes it"
            )
    # Said, not left out: else the library asks the terminal, and takes a line of a pipe as consent.
    return transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)


def _check_ids(tokenizer: Tokenizer, values: Mapping[str, Any]) -> None:
    """Added tokens are numbered on from the vocabulary; raises `InputError` where that is not what
    the configuration says, and every special token would be another one to the model.
    """
    for index, token in values.get("added_tokens_decoder", {}).items():
        text = token["content"]
        found = tokenizer.convert_tokens_to_ids(text)
        if found != int(index):
            raise InputError(
                f"{_CONFIG} says that {text} is {index}, but beside this vocabulary it is {found}; "
                "expected files of one save"
            )


def load_tokenizer(
    source: str,
    path: str,
    backbone_path: str,
    *,
    eos_id: int | None = None,
    pad_id: int | None = None,
) -> Tokenizer:
    """Loads the tokenizer that `tokenizer_source` names (DESIGN.md, section 3).

    Args:
      source: "mdlm", the tokenizer at `path` (GPT-2's); "auto", the one beside the weights.
      path: hub id or local folder, used by "mdlm".
      backbone_path: the backbone's folder, whose `tokenizer/` is used by "auto".
      eos_id, pad_id: those of the model's `config.json`, which go before the tokenizer's own; None
        where it has none.

    Raises:
      InputError: no tokenizer can be loaded from there, it has no fast form, which the character
        offsets of the prompt need, no eos, or no token of an id that `config.json` names.
    """
    place = str(Path(backbone_path) / "tokenizer") if source == "auto" else path
    if source == "auto" and not Path(place).is_dir():
        raise InputError(
            f"no tokenizer at {place}; expected the files that the converter copies from beside "
            "the weights, or backbone.tokenizer_source 'mdlm'"
        )
    try:
        tokenizer = read_tokenizer(place)
    except InputError as error:
        raise InputError(f"no tokenizer could be loaded from {place}: {error}") from None
    except Exception as error:  # broken files raise KeyError, or Exception itself
        reason = textwrap.shorten(f"{type(error).__name__} {error}", 200, placeholder=" ...")
        raise InputError(
            f"no tokenizer could be loaded from {place} ({reason}); expected a hub id or a local "
            "folder with tokenizer files in backbone.tokenizer_path"
        ) from error
    for name, index in (("eos_token", eos_id), ("pad_token", pad_id)):
        if index is None or index == getattr(tokenizer, f"{name}_id"):
            continue
        if index >= len(tokenizer):
            raise InputError(
                f"config.json of {backbone_path} says {name}_id {index}, but the tokenizer at "
                f"{place} has {len(tokenizer)} ids; expected files of one model"
            )
        setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(index))
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer at {place} has no fast form or no eos token; it needs both"
        )
    return tokenizer
