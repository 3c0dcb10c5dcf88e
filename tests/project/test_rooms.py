"""The package's rooms: what may import what, read from the sources (DESIGN.md, section 2)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "reoac_jax"
# Rooms may import those that stand before them, and none beside them.
STOREYS = (
    ("system",),
    ("config",),
    ("devices",),
    ("runs",),
    ("backbone", "tasks"),
    ("policy",),
    ("rollout",),
    ("samplers", "learning"),
    ("evaluation", "convert"),
    ("finetuning", "report", "solver"),
)
LEVEL = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}
COMMANDS = {"__init__", "__main__", "evaluate", "lm_eval", "sft", "solve", "train", "watch"}


def imported(path: Path) -> set[str]:
    """Names of the package's own modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relative to itself"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "reoac_jax"}


def rooms_of(path: Path) -> set[str]:
    """The rooms, or modules of the root, that a file imports from."""
    parts = [name.split(".") for name in imported(path)]
    return {part[1] for part in parts if len(part) > 1}


def test_every_folder_is_a_room_and_the_root_holds_commands():
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == set(LEVEL)
    assert {p.stem for p in PACKAGE.glob("*.py")} == COMMANDS


@pytest.mark.parametrize("room", LEVEL)
def test_imports_run_downwards(room):
    for path in (PACKAGE / room).rglob("*.py"):
        for other in rooms_of(path):
            if other == "__version__":
                continue
            where = path.relative_to(PACKAGE)
            assert other in LEVEL, f"{where} imports {other}, which is no room"
            assert other == room or LEVEL[other] < LEVEL[room], f"{where} imports {other}"


def test_no_file_imports_one_that_imports_it():
    """No circle of files either, within a room or across."""
    files = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        files[name.removesuffix(".__init__")] = path
    edges = {}
    for name, path in files.items():
        targets = set()
        for target in imported(path):
            while target not in files:
                target = target.rpartition(".")[0]
            targets.add(target)
        # `from reoac_jax.room import name` names the room's own `__init__`, which lists its files.
        edges[name] = targets - {name, "reoac_jax"}
    done, open_ = set(), []

    def visit(name: str) -> None:
        if name in done:
            return
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        open_.append(name)
        for target in edges[name]:
            visit(target)
        open_.pop()
        done.add(name)

    for name in files:
        visit(name)
