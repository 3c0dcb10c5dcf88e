"""Compiled programs: kept on the disk from run to run, and announced while they are made."""

import os
import sys
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache
from tqdm import tqdm

from reoac_jax.system.errors import InputError

COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"  # as JAX names it, seconds
_WORTH_SAYING = 1.0  # seconds
_announcing = False


def set_up_compilation(cache_dir: str) -> None:
    """Switches JAX's persistent compilation cache on and announces what takes a second or more.

    Args:
      cache_dir: a folder; "off"; or "auto": what JAX's own setting names, if the user made it, else
        `reoac_jax/compiled` in the user's cache folder. A folder made here is its user's alone:
        what is loaded from it is run.

    Raises:
      InputError: the folder cannot be made or written.
    """
    global _announcing
    if not _announcing:
        jax.monitoring.register_event_duration_secs_listener(_announce)
        _announcing = True
    compilation_cache.reset_cache()  # else a program compiled earlier has fixed what is used
    if cache_dir == "off":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_enable_compilation_cache", True)
    if cache_dir == "auto":
        if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
            return
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = caches / "reoac_jax" / "compiled"
    else:
        folder = Path(cache_dir).expanduser()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise InputError(f"compilation.cache_dir: {error}; expected a folder") from error
    if not writable:
        raise InputError(f"compilation.cache_dir: {folder} cannot be written; expected a folder")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _announce(event: str, duration_secs: float, **what: str | int) -> None:
    if event == COMPILE_EVENT and duration_secs >= _WORTH_SAYING:
        name = str(what.get("fun_name", "a program")).removeprefix("jit(").removesuffix(")")
        tqdm.write(f"compiled {name} in {duration_secs:.1f} s", file=sys.stderr)
