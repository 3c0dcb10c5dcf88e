"""The keys of the task: `task.name`, what the task itself declares, and the grader's."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.config.schema import Option
from reoac_jax.tasks import task_options

OPTIONS: Mapping[str, Option] = {
    "task.name": Option("str", "which task; the section's other keys depend on it", "countdown"),
    "grader.workers": Option("int", "processes that grade", 2, low=1, high=256),
    "grader.timeout": Option(
        "float", "seconds an item may take before it counts as wrong", 10.0, low=0.1, high=3600.0
    ),
}


def options(values: Mapping[str, Any]) -> Mapping[str, Option]:
    """The keys of the task that `task.name` names. Raises `InputError` on an unknown task."""
    own = task_options(values["task.name"])
    return {f"task.{key}": option for key, option in own.items()}
