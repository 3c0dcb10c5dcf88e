"""Writes docs/configuration.md: every key, what it may hold, its default, and what it does.

    python scripts/make_config_docs.py [--output docs/configuration.md]

Everything but the order of the sections comes from the rooms' `options.py`, the tasks and
`configs/*.py`.
"""

import argparse
import functools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import FrozenConfigDict

from reoac_jax.config import Option, fixed_options, load_config, parse_options
from reoac_jax.policy.operators import OPERATOR_TYPES
from reoac_jax.policy.options import FURTHER
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_text
from reoac_jax.tasks import TASKS, task_options

ROOT = Path(__file__).resolve().parents[1]
# As somebody would ask who sets up a run; a section that is not listed comes last.
ORDER = (
    "", "backbone", "lora", "task", "rollout", "features", "operators", "heads", "reward",
    "objective", "optimizer", "train", "sft", "evaluation", "grader", "checkpoint", "logging",
    "sharding", "distributed", "compilation",
)  # fmt: skip

_HEAD = """\
# Configuration

<!-- Written by scripts/make_config_docs.py; change a room's options.py, a task or configs/. -->

A configuration is a Python file with `get_config()`, such as `configs/gsm8k.py`. It starts from
`base()`, where every key has its default, and sets what differs:

    from reoac_jax.config import base

    def get_config():
        config = base()
        config.exp_name = "short"
        config.task.name = "countdown"
        config.task.numbers = 4
        config.rollout.update(max_steps=5, gen_len=18)
        return config

A key that the file leaves out has its default. The `config.json` of a run is a configuration too;
it records the run, so that it holds every key. Any key can be changed on the command line, where a
tuple is written `4,8`, `(4,8)` or `()`:

    python -m reoac_jax.train --config configs/tiny.py --config.rollout.max_steps=13

A file may import its neighbours by name (`from tiny import get_config`), and `--config
FILE.py:ARGUMENT` calls `get_config("ARGUMENT")`. A relative path is looked for in the folder the
command is started in.

A key that is unknown, or a value that is not listed here, ends the command with one line that names
the key and what it may hold, before anything is written. So do keys that do not fit together, for
instance a `train.episodes_per_iter` that is no multiple of `train.episodes_per_prompt`.

`configs/` holds
"""
_TASK_HEAD = """\
The other keys of the section are those of the task that `task.name` names.
"""
_HEADS_HEAD = """\
Where `{}` is `{}`, the section has besides:
"""
_OPERATOR_HEAD = """\
The other keys of the section are those of the operators that `operators.names` lists.
"""


def document() -> str:
    """The whole page as Markdown."""
    paths = sorted((ROOT / "configs").glob("*.py"))
    configs = {path.stem: load_config(path) for path in paths}
    lines = [_HEAD, *map(_summary, paths), ""]
    sections: dict[str, dict[str, Option]] = {}
    for key, option in fixed_options().items():
        sections.setdefault(key.rpartition(".")[0].split(".")[0], {})[key] = option
    for name in sorted(sections, key=lambda name: (name not in ORDER, _place(name))):
        lines += [f"## {f'`{name}`' if name else 'The run'}", ""]
        lines += [*_table(sections[name], configs), ""]
        if name == "task":
            lines.append(_TASK_HEAD)
            for task in TASKS:
                own = {file: c for file, c in configs.items() if c.task.name == task}
                options = {f"task.{key}": option for key, option in task_options(task).items()}
                lines += [f"### Task `{task}`", "", *_table(options, own), ""]
        if name == "operators":
            lines.append(_OPERATOR_HEAD)
            for operator, kind in OPERATOR_TYPES.items():
                own = {file: c for file, c in configs.items() if operator in c.operators.names}
                options = {f"operators.{operator}.{k}": o for k, o in kind.parameters().items()}
                lines += [f"### Operator `{operator}`", "", *_table(options, own), ""]
        if name == "heads":
            for (key, choice), options in FURTHER.items():
                short = key.removeprefix("heads.")
                own = {file: c for file, c in configs.items() if c.heads[short] == choice}
                lines += [_HEADS_HEAD.format(key, choice), *_table(options, own), ""]
    return "\n".join(lines).rstrip() + "\n"


def _place(section: str) -> int:
    return ORDER.index(section) if section in ORDER else 0


def _summary(path: Path) -> str:
    """A line of the list of configurations: the first of the file's docstring."""
    first = path.read_text(encoding="utf-8").split("\n")[0].strip('"')
    return f"- [`{path.name}`](../configs/{path.name}): {first}"


def _table(options: Mapping[str, Option], configs: Mapping[str, FrozenConfigDict]) -> Iterator[str]:
    yield "| key | may hold | default | in `configs/` | effect |"
    yield "|---|---|---|---|---|"
    for key, option in options.items():
        elsewhere: dict[Any, list[str]] = {}
        for name, config in configs.items():
            value = _value(config, key)
            if value != option.default:
                elsewhere.setdefault(value, []).append(name)
        others = "; ".join(f"`{value}` {', '.join(names)}" for value, names in elsewhere.items())
        effect = re.sub(r"([|*<])", r"\\\1", option.doc)
        yield f"| `{key}` | {option.expected} | `{option.default}` | {others} | {effect} |"


def _value(config: FrozenConfigDict, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default=ROOT / "docs" / "configuration.md", type=Path)
    output = parse_options(parser, argv).output
    write_text(output, document())
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
