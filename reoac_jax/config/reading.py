"""Configuration files: a Python file with `get_config()`, or the `config.json` of a run."""

import difflib
import importlib
import importlib.util
import inspect
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from reoac_jax.system import formats
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import looked_in
from reoac_jax.system.json_files import read_json_object


def read_config(name: str | Path) -> dict[str, Any]:
    """The flat values (`"rollout.max_steps"` to its value) of a configuration file.

    Args:
      name: a path, or `FILE.py:ARGUMENT` for what `get_config(ARGUMENT)` returns. The file may
        import its neighbours by name (`from tiny import get_config`).

    Raises:
      InputError: the file cannot be read or run, or gives no configuration.
    """
    path, argument = _split_argument(str(name))
    if not path.exists():
        raise InputError(
            f"config file {path} does not exist{looked_in(path)}{_nearest_file(path)};"
            " expected one such as configs/tiny.py"
        )
    if not path.is_file() or path.suffix not in (".py", ".json"):
        raise InputError(f"config {path} is no configuration; expected a .py or .json file")
    if path.suffix == ".json":
        values = read_json_object(path, "a run's config.json", what="config file")
        formats.check_format(values, f"config file {path}", formats.RUN)
        return flatten({key: value for key, value in values.items() if key != formats.KEY})
    return _run_python(path, argument)


def is_record(name: str | Path) -> bool:
    """Whether the file is a run's record, which has to be complete, not a Python file."""
    return str(name).endswith(".json")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"rollout.max_steps": 32, ...}` of a ConfigDict or nested mapping."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            if not len(value):
                values[f"{prefix}{key}"] = {}  # kept, so that an unknown one can be refused
            values |= flatten(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def _split_argument(name: str) -> tuple[Path, str | None]:
    """`configs/tiny.py:large` to its path and argument; the argument is None where none stands."""
    file, colon, argument = name.partition(".py:")
    if colon and not Path(name).exists():
        return Path(f"{file}.py"), argument
    return Path(name), None


def _nearest_file(path: Path) -> str:
    """` (did you mean '...'?)`, or nothing where no configuration of the folder has a near name."""
    try:
        known = [file.name for file in path.parent.glob("*.py")]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, known, n=1)
    return f" (did you mean {str(path.with_name(near[0]))!r}?)" if near else ""


def _run_python(path: Path, argument: str | None) -> dict[str, Any]:
    """Runs the file and flattens what its `get_config()` returns."""
    folder = path.resolve().parent
    try:
        with _neighbours(folder):
            names = runpy.run_path(str(path))
            if "get_config" not in names:
                raise InputError(f"config file {path} has no get_config(); expected one")
            config = _call(names["get_config"], path, argument)
            if not isinstance(config, ConfigDict):
                raise InputError(
                    f"config file {path}: get_config() gives {type(config).__name__};"
                    " expected ConfigDict"
                )
            return flatten(config)
    except InputError:
        raise
    except SyntaxError as error:
        where = f"{error.filename or path}, line {error.lineno or 1}"
        raise InputError(
            f"config file {where}: syntax error: {error.msg}; expected Python"
        ) from error
    except (Exception, SystemExit) as error:
        # The innermost line of the file or of a neighbour: what it calls is not the user's.
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve().parent == folder
        ]
        where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else str(path)
        raise InputError(f"config file {where}: {type(error).__name__}: {error}") from error


def _call(get_config: Callable[..., Any], path: Path, argument: str | None) -> Any:
    """What `get_config` returns. Raises `InputError` where it takes or needs the argument."""
    arguments = () if argument is None else (argument,)
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError:
        expected = f"{path}:ARGUMENT" if argument is None else f"{path} alone"
        given = "no argument" if argument is None else f"the argument {argument!r}"
        raise InputError(
            f"config file {path}: get_config() does not take {given}; expected {expected}"
        ) from None
    except ValueError:  # something built in, without a signature
        pass
    return get_config(*arguments)


class _Neighbours:
    """Finds the modules `NAME.py` of a folder, before any of the same name elsewhere.

    Python's own modules go first: a `math.py` among the configurations does not hide `math`.
    """

    def __init__(self, folder: Path) -> None:
        self.files = {
            file.stem: file
            for file in folder.glob("*.py")
            if file.stem not in sys.stdlib_module_names and not file.stem.startswith("__")
        }

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if path is not None or name not in self.files:
            return None
        return importlib.util.spec_from_file_location(name, self.files[name])


@contextmanager
def _neighbours(folder: Path) -> Iterator[None]:
    """Within it `import NAME` finds `folder/NAME.py`; afterwards nothing of that is left.

    So two configurations may each have a neighbour of the same name, in one process.
    """
    finder = _Neighbours(folder)
    hidden = {name: sys.modules.pop(name) for name in finder.files if name in sys.modules}
    writes_bytecode = sys.dont_write_bytecode
    # A stale .pyc would be taken for a neighbour rewritten within a second at the same size.
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.dont_write_bytecode = writes_bytecode
        for name in finder.files:
            sys.modules.pop(name, None)
        sys.modules |= hidden
