"""Compiled programs: kept on the disk from run to run, and announced while they are made."""

import os
import sys
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from reoac_jax.system.errors import InputError
from reoac_jax.system.progress import say

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
      InputError: the folder that `cache_dir` names cannot be made or written. For "auto" that is a
        warning: every start compiles anew then.
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
    if cache_dir != "auto":
        try:
            folder = Path(cache_dir).expanduser()
            _make_private(folder)
        except (OSError, RuntimeError) as error:  # RuntimeError: ~ of nobody
            raise InputError(f"compilation.cache_dir: {error}; expected a folder") from error
    else:
        given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        if given and "://" in given:
            return  # a bucket
        try:
            folder = Path(given) if given else _cache_folder()
            _make_private(folder)
        except (OSError, RuntimeError) as error:
            jax.config.update("jax_enable_compilation_cache", False)
            print(
                f"warning: compiled programs are not kept ({error}), so that each start compiles "
                "anew; compilation.cache_dir or JAX_COMPILATION_CACHE_DIR names a folder for them",
                file=sys.stderr,
            )
            return
        if given:
            return  # and with what else the user has set in JAX
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _cache_folder() -> Path:
    """In the user's cache folder. Raises `RuntimeError` where the user has no home."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not caches.is_absolute():
        raise RuntimeError(f"the cache folder {caches} is no absolute path")
    return caches / "reoac_jax" / "compiled"


def _make_private(folder: Path) -> None:
    """Makes the folder, its user's alone, where it is not there. Raises `OSError`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written")


def _announce(event: str, duration_secs: float, **what: str | int) -> None:
    if event == COMPILE_EVENT and duration_secs >= _WORTH_SAYING:
        name = str(what.get("fun_name", "a program")).removeprefix("jit(").removesuffix(")")
        say(f"compiled {name} in {duration_secs:.1f} s")
