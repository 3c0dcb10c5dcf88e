"""JSON files that hold one object, read with one line for whatever is wrong with them."""

import json
import os
from pathlib import Path
from typing import Any

from reoac_jax.system.errors import InputError
from reoac_jax.system.files import looked_in


def read_json_object(path: str | os.PathLike, expected: str, *, what: str = "") -> dict[str, Any]:
    """The object in a UTF-8 JSON file, with or without a byte-order mark.

    Args:
      path: the file.
      expected: what should be there, after "expected", for instance "what PEFT's save writes".
      what: what the user calls the file, before its path, for instance "--eval".

    Raises:
      InputError: the file cannot be read, is no JSON, or holds another value than an object.
    """
    named = f"{what} {path}".lstrip()
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"{named}{looked_in(path)} cannot be read as JSON ({reason}); expected {expected}"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"{named} holds no JSON object; expected {expected}")
    return value
