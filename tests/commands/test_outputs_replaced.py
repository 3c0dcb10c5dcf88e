"""A second result under the same name takes the place of the first as a whole, or not at all."""

import json
import shlex

import pytest
from support.bad_inputs.case import TINY
from support.bad_inputs.world import build

from reoac_jax import evaluate
from reoac_jax.evaluation import to_files
from reoac_jax.report import __main__ as report
from reoac_jax.system.errors import run_command

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path, monkeypatch):
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_evaluation_over_an_earlier_one(world, capsys, monkeypatch):
    """The name has spaces, quotes and a substitution: the command is recorded quoted for bash."""
    name = "my 'out' $(touch ran).json"
    quick = f"{TINY} --config.rollout.max_steps=2 --config.evaluation.batch_size=4 --policy O_OP"

    def once(limit: int, code: int = 0) -> str:
        argv = [*quick.split(), "--limit", str(limit), "--output", name]
        assert run_command(evaluate.main, argv) == code
        return capsys.readouterr().out

    def written() -> tuple[int, int]:
        answers = (world / name).with_suffix(".jsonl").read_text().splitlines()
        scores = json.loads((world / name).read_text())
        words = ["python", "-m", "reoac_jax.evaluate", *quick.split()]
        words += ["--limit", str(scores["limit"]), "--output", name]
        assert shlex.split(scores["command"]) == words  # as a shell reads it back
        return scores["samples"], len(answers)

    assert "in place of an earlier" not in once(3) and written() == (3, 3)
    assert "in place of an earlier evaluation" in once(2) and written() == (2, 2)

    def no_room(path, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(to_files, "write_json", no_room)
    once(1, code=1)
    assert written() == (2, 2)  # scores and answers of one evaluation
    assert sorted(path.name for path in world.glob("*my*")) == [name, f"{name}l"]


def test_a_report_over_an_earlier_one(world, capsys):
    assert run_command(report.main, ["run"]) == 0
    folder = world / "run" / "report"
    before = sorted(folder.rglob("*"))
    for stale in ("pictures/relation_map_9.png", "series/relation_map_9.csv"):
        (folder / stale).parent.mkdir(exist_ok=True)
        (folder / stale).write_text("of an earlier run")
    (folder / "notes.txt").write_text("the user's own")
    assert run_command(report.main, ["run"]) == 0
    left = set(folder.rglob("*")) - set(before)
    assert {path.relative_to(folder).as_posix() for path in left} <= {"notes.txt", "pictures"}
