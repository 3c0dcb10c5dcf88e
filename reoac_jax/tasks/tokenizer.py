"""The tokenizer: its type, without the time that its library takes to import, and its loading."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Tokenizer: TypeAlias = PreTrainedTokenizerBase
else:
    Tokenizer = Any

_CONFIG = "tokenizer_config.json"
# Loaded by their own names. `AutoTokenizer` gives the same, and imports torch where it is
# installed, which takes a second and is needed for nothing here.
_BY_NAME = ("PreTrainedTokenizerFast", "TokenizersBackend", "GPT2Tokenizer", "GPT2TokenizerFast")


def read_tokenizer(place: str) -> Tokenizer:
    """The tokenizer of a hub id or a local folder, of whatever kind. Raises what its library does,
    `InputError` for a configuration that is no JSON object.
    """
    import transformers

    config = Path(place) / _CONFIG
    if config.is_file():
        name = read_json_object(config, "a tokenizer's configuration").get("tokenizer_class")
        if name in _BY_NAME:
            return getattr(transformers, name).from_pretrained(place)
    return transformers.AutoTokenizer.from_pretrained(place)


def load_tokenizer(source: str, path: str, backbone_path: str) -> Tokenizer:
    """Loads the tokenizer that `tokenizer_source` names (DESIGN.md, section 3).

    Args:
      source: "mdlm", the tokenizer at `path` (GPT-2's); "auto", the one beside the weights.
      path: hub id or local folder, used by "mdlm".
      backbone_path: the backbone's folder, whose `tokenizer/` is used by "auto".

    Raises:
      InputError: no tokenizer can be loaded from there, or it has no fast form, which the
        character offsets of the prompt need.
    """
    place = str(Path(backbone_path) / "tokenizer") if source == "auto" else path
    if source == "auto" and not Path(place).is_dir():
        raise InputError(
            f"no tokenizer at {place}; expected the files that the converter copies from beside "
            "the weights, or backbone.tokenizer_source 'mdlm'"
        )
    try:
        tokenizer = read_tokenizer(place)
    except Exception as error:  # broken files raise KeyError, or Exception itself
        reason = " ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        raise InputError(
            f"no tokenizer could be loaded from {place} ({reason}); expected a hub id or a local "
            "folder with tokenizer files in backbone.tokenizer_path"
        ) from error
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer at {place} has no fast form or no eos token; it needs both"
        )
    return tokenizer
