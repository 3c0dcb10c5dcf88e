"""Commands that the program prints for the user to paste into a shell."""

import os
import shlex

_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\", "'": r"\'"}


def shell_command(module: str, *arguments: str | os.PathLike) -> str:
    """`python -m reoac_jax.MODULE ARGUMENT ...` in one line; no character of it is the shell's own.

    Args:
      module: in the package, for instance "train" or "convert.mdlm_to_flax".
      arguments: words as they are; paths as `Path`, which cannot be taken for options then.
    """
    words = ["python", "-m", f"reoac_jax.{module}", *map(_word, arguments)]
    return " ".join(quoted(word) for word in words)


def quoted(word: str) -> str:
    """`word` as one word of a POSIX shell; with control characters as one of bash, zsh and ksh."""
    if word.isprintable():
        return shlex.quote(word)
    # A line break inside quotes would break the line that the command is printed in.
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _word(argument: str | os.PathLike) -> str:
    """A path that begins with a dash is written so that no command takes it for an option."""
    text = os.fspath(argument)
    return f"./{text}" if not isinstance(argument, str) and text.startswith("-") else text
