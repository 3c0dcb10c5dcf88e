"""The keys of the task: `task.name`, what the task itself declares, and the grader's."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import task_options

OPTIONS: Mapping[str, Option] = {
    "task.name": Option("str", "which task; the section's other keys depend on it", "countdown"),
    "task.prompt": Option(
        "str",
        "plain: a problem's text as it is; chat: a turn in the tokenizer's own chat template, "
        "whose end of turn then ends the answer",
        "plain",
        choices=("plain", "chat"),
    ),
    "task.system_prompt": Option("str", "none, or the system turn of a chat", "none"),
    "task.worked_examples": Option(
        "int",
        "of a chat: so many of the first training problems stand before each problem as answered "
        "turns",
        0,
        low=0,
        high=64,
    ),
    "grader.workers": Option("int", "processes that grade", 2, low=1, high=256),
    "grader.timeout": Option(
        "float", "seconds an item may take before it counts as wrong", 10.0, low=0.1, high=3600.0
    ),
}


def options(values: Mapping[str, Any]) -> Mapping[str, Option]:
    """The keys of the task that `task.name` names. Raises `InputError` on an unknown task."""
    own = task_options(values["task.name"])
    return {f"task.{key}": option for key, option in own.items()}


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where a plain prompt is given a chat's turns."""
    if values["task.prompt"] == "plain":
        for key, unset in (("task.system_prompt", "none"), ("task.worked_examples", 0)):
            if values[key] != unset:
                raise InputError(f"{key} is for task.prompt chat; task.prompt is plain")
