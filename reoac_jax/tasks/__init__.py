"""Tasks by name. A further task is one file in `families/` with a `Task` class."""

from collections.abc import Mapping

from ml_collections import ConfigDict, FrozenConfigDict

from reoac_jax.config.parameters import members, nearest
from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import families
from reoac_jax.tasks.task import Grade, Problem, RewardMode, Split, Task

__all__ = [
    "TASKS",
    "Grade",
    "Problem",
    "RewardMode",
    "Split",
    "Task",
    "make_task",
    "task_options",
]

TASKS: dict[str, type[Task]] = members(families, Task)  # type: ignore[type-abstract]


def make_task(task: ConfigDict | FrozenConfigDict, grader: ConfigDict | FrozenConfigDict) -> Task:
    """The task that `config.task` describes; `grader` is `config.grader`.

    Nothing is read or started yet. Raises `InputError` on an unknown name or on options that do
    not fit together.
    """
    return _task_class(task.name)(task, grader)


def task_options(name: str) -> Mapping[str, Option]:
    """The keys of `config.task` besides `name`. Raises `InputError` on an unknown task."""
    return _task_class(name).options


def _task_class(name: str) -> type[Task]:
    if name in TASKS:
        return TASKS[name]
    raise InputError(
        f"task.name is {name!r}; expected one of {', '.join(TASKS)}{nearest(str(name), TASKS)}"
    )
