"""Numbers of the layouts that are kept on disk, so that an older one is refused by its number.

A file without a number has format 1, from before they were written down.
"""

from collections.abc import Mapping
from typing import Any

from reoac_jax.system.errors import InputError

KEY = "format"
RUN = 2  # config.json and the checkpoints of a run
BACKBONE = 2  # a converted backbone's folder; format 1 is read as well
_WRITTEN_BY = {1: "0.1", 2: "0.2"}  # the versions of reoac_jax that write, and read, a format


def check_format(values: Mapping[str, Any], what: str, *formats: int) -> None:
    """Raises `InputError` unless the format that `values` names is one of `formats`.

    what: the folder or file, for the message.
    """
    found = values.get(KEY, 1)
    if found in formats and not isinstance(found, bool):
        return
    by = f"reoac_jax {_WRITTEN_BY[found]}" if found in _WRITTEN_BY else "another reoac_jax"
    raise InputError(
        f"{what} has format {found}, which {by} reads; expected format "
        f"{' or '.join(map(str, formats))}"
    )
