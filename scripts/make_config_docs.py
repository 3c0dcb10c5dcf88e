"""Writes docs/configuration.md: every key, what it may hold, its values, and what it does.

    python scripts/make_config_docs.py [--output docs/configuration.md]

The keys and ranges are those that the program checks (`config_schema.SCHEMA`, the tasks' options),
the values those of `configs/*.py`, the effects the schema's words and the comments of these files.
"""

import argparse
import functools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import FrozenConfigDict

from reoac_jax.config import load_config, parse_options
from reoac_jax.config.schema import SCHEMA, Option
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_text
from reoac_jax.tasks import TASKS, task_options

ROOT = Path(__file__).resolve().parents[1]
FILES = ("tiny.py", "gsm8k.py", "math.py")
DERIVED = ("arithmetic.py",)  # take all but their task from another
_SECTION = re.compile(r"\s+\w+ = config\.(?P<key>\w+) = ConfigDict\(\)(?:\s+# (?P<comment>.*))?")
_VALUE = re.compile(r"\s+(?P<key>\w+(?:\.\w+)+) = .*?(?:\s+# (?P<comment>.*))?")
_COMMENT = re.compile(r"\s+# (.*)")

_HEAD = """\
# Configuration

<!-- Written by scripts/make_config_docs.py; change the schema, a task or configs/, then run it. -->

A configuration is a Python file with `get_config()`, such as `configs/gsm8k.py`, or the
`config.json` of a run. It holds every key: there are no defaults besides what the file says, so
start from a copy of one of `configs/`. Any key can be changed on the command line, where a tuple is
written `4,8`, `(4,8)` or `()`:

    python -m reoac_jax.train --config configs/tiny.py --config.rollout.max_steps=13

A key that is unknown or missing, or a value that is not listed here, ends the command with one line
that names the key and what it may hold, before anything is written. So do keys that do not fit
together, for instance a `train.episodes_per_iter` that is no multiple of
`train.episodes_per_prompt`.

The columns `tiny`, `gsm8k` and `math` hold the values of the three files in `configs/`.
"""
_TASK_HEAD = """
`task.name` says which task it is; the other keys of the section depend on it.
"""


class Comments(NamedTuple):
    """What a configuration file says behind or above a line: of sections, and of whole keys."""

    sections: Mapping[str, str]
    keys: Mapping[str, str]


def read_comments(source: str) -> Comments:
    """The comments of a configuration file, by section and by key.

    A comment above the line of an operator, which holds several keys, is its section's.
    """
    sections: dict[str, str] = {}
    keys: dict[str, str] = {}
    above: list[str] = []
    for line in source.splitlines():
        if comment := _COMMENT.fullmatch(line):
            above.append(comment[1])
            continue
        found, where = _SECTION.fullmatch(line), sections
        if found is None:
            found, where = _VALUE.fullmatch(line), keys
        if found is not None:
            words = " ".join([*above, found["comment"] or ""]).strip()
            key = found["key"].removeprefix("config.")
            if key.startswith("operators."):
                key, where = "operators", sections
            if words:
                where[key] = f"{where[key]} {words}" if key in where else words
        above = []
    return Comments(sections, keys)


def document() -> str:
    """The whole page as Markdown."""
    paths = [ROOT / "configs" / file for file in (*FILES, *DERIVED)]
    every = {path.stem: load_config(path, (), task_options) for path in paths}
    comments = {path.stem: read_comments(path.read_text(encoding="utf-8")) for path in paths}
    configs = {name: config for name, config in every.items() if f"{name}.py" in FILES}
    general = comments["gsm8k"]
    lines = [_HEAD]
    names = list(dict.fromkeys(key.split(".")[0] if "." in key else "" for key in SCHEMA))
    names.insert(names.index("rollout"), "task")  # where the files have it
    for name in names:
        lines.append(f"## {f'`{name}`' if name else 'The run'}")
        if name in general.sections:
            lines.append(f"\n{general.sections[name]}")
        if name == "task":
            lines += [_TASK_HEAD, *_task_tables(every, comments)]
            continue
        options = {
            key: option
            for key, option in SCHEMA.items()
            if (key.split(".")[0] if "." in key else "") == name
        }
        lines += ["", *_table(options, configs, general.keys), ""]
    return "\n".join(lines).rstrip() + "\n"


def _task_tables(
    configs: Mapping[str, FrozenConfigDict], comments: Mapping[str, Comments]
) -> Iterator[str]:
    for task in TASKS:
        own = {name: config for name, config in configs.items() if config.task.name == task}
        said: dict[str, str] = {}
        for name in own:
            said |= comments[name].keys
        options = {f"task.{key}": option for key, option in task_options(task).items()}
        yield f"### Task `{task}`\n"
        yield from _table(options, own, said)
        yield ""


def _table(
    options: Mapping[str, Option],
    configs: Mapping[str, FrozenConfigDict],
    comments: Mapping[str, str],
) -> Iterator[str]:
    columns = ["key", "may hold", *configs, "effect"]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for key, option in options.items():
        values = (f"`{_value(config, key)}`" for config in configs.values())
        effect = _effect(option.doc, comments.get(key, ""))
        yield f"| {' | '.join([f'`{key}`', option.expected, *values, effect])} |"


def _effect(doc: str, comment: str) -> str:
    """What the schema and the file say, or the fuller of the two where one repeats the other."""
    said, again = (set(re.findall(r"\w+", text.casefold())) for text in (doc, comment))
    words = f"{doc}; {comment}"
    if again <= said:
        words = doc
    elif len(said & again) >= 0.5 * len(said):
        words = comment
    return re.sub(r"([|*<])", r"\\\1", words)


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
