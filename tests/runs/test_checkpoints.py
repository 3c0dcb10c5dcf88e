"""A run's checkpoints: what is kept, what damage does, what a save that fails leaves."""

import os
import resource
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from reoac_jax.runs import checkpoints
from reoac_jax.runs.checkpoints import (
    RunCheckpoints,
    find_checkpoint,
    latest_checkpoint,
    read_item,
    read_record,
)
from reoac_jax.runs.checksums import CHECKSUMS
from reoac_jax.system.errors import InputError

# Written by Orbax behind the checksums: times, and a marker for other file systems.
LATE = {"_CHECKPOINT_METADATA", "commit_success.txt"}


def item(iteration):
    rng = np.random.default_rng(iteration)
    return {"w": rng.standard_normal((40, 30)).astype(np.float32), "n": np.int32(iteration)}


def save(folder, rewards, first=0, keep=(2, 1), after=None):
    with RunCheckpoints(folder, *keep, after=after) as run:
        for iteration, reward in enumerate(rewards, start=first):
            record = {"iteration": iteration, "base_hash": "0"}
            run.save(iteration, {"actor": item(iteration)}, record, reward)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Iterations 0, 1 and 2."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    save(folder, [0.5, 0.1, 0.2])
    assert names(folder) == ["0", "1", "2"]
    return folder


@pytest.fixture
def run(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run" / "checkpoints")
    return tmp_path / "run" / "checkpoints"


def test_the_latest_and_the_best_are_kept_across_a_resume(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, [0.1, 0.9, 0.2, 0.3, 0.2])
    assert names(folder) == ["1", "3", "4"]
    save(folder, [0.0, 0.1], first=5, after=folder / "4")
    assert names(folder) == ["1", "5", "6"]
    assert find_checkpoint(folder) == latest_checkpoint(folder) == folder / "6"
    assert find_checkpoint(folder / "1") == folder / "1"
    jax.tree.map(np.testing.assert_array_equal, read_item(folder / "6", "actor"), item(6))
    assert read_record(folder / "1")["iteration"] == 1


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


DAMAGES = {
    "bits flipped": flip,
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_any_file_is_found_and_the_one_before_is_used(damage, saved, run, capsys):
    files = [path.relative_to(saved) for path in (saved / "2").rglob("*") if path.is_file()]
    assert len(files) > 8
    for file in files:
        if file.name in LATE or not (run / file).stat().st_size:
            continue
        DAMAGES[damage](run / file)
        assert latest_checkpoint(run) == run / "1", file
        error = capsys.readouterr().err
        assert error.startswith(f"warning: checkpoint {run / '2'} is damaged: ")
        assert str(run / "1") in error and error.count("\n") == 1
        if file.name != CHECKSUMS:  # a changed byte there is laid to the file that it is about
            assert file.name in error
        with pytest.raises(InputError, match="2 is damaged"):
            find_checkpoint(run / "2")
        shutil.copy(saved / file, run / file)
    assert latest_checkpoint(run) == run / "2"
    assert not capsys.readouterr().err


def test_half_deleted_and_all_damaged(run, capsys):
    shutil.rmtree(run / "2" / "actor")
    shutil.rmtree(run / "1" / "record")
    (run / "1" / "checksums.json").unlink()
    assert find_checkpoint(run) == run / "0"
    assert capsys.readouterr().err.count("warning: ") == 2
    (run / "0" / "checksums.json").write_text("[]")
    with pytest.raises(InputError, match="2 is damaged: actor"):
        latest_checkpoint(run)


def test_damage_to_what_orbax_writes_late_does_no_harm(run):
    for name in LATE:
        flip(run / "2" / name)
        (run / "1" / name).unlink()
    assert latest_checkpoint(run) == run / "2"
    save(run, [0.0], first=3, after=run / "2")
    assert latest_checkpoint(run) == run / "3"


def test_a_run_goes_on_behind_a_damaged_checkpoint(run):
    flip(max((run / "2" / "actor").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size))
    save(run, [0.3, 0.4], first=2, after=latest_checkpoint(run))
    assert latest_checkpoint(run) == run / "3"
    assert names(run) == ["0", "2", "3"]
    assert names(run.parent / "damaged") == ["2"]


def test_what_a_killed_save_or_removal_left_is_gone(run):
    shutil.copytree(run / "2", run / "3.orbax-checkpoint-tmp")
    shutil.rmtree(run / "0" / "metrics")  # its reward
    save(run, [0.3], first=3, after=latest_checkpoint(run))
    assert names(run) == ["2", "3"]  # 2: latest but one; 3: best


def test_none_is_no_mistake_for_a_run_but_for_a_reader(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None
    with pytest.raises(InputError, match="no checkpoint in"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("place", ["arrays", "checksums"])
def test_a_save_that_fails_leaves_the_one_before(place, run, monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = {"actor": np.random.default_rng(0).standard_normal((300, 300))}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    try:
        with pytest.raises(OSError, match=r"written: File too large$|No space left on device"):
            with RunCheckpoints(run, 1, 0, after=run / "2") as going_on:
                if place == "arrays":
                    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
                else:
                    monkeypatch.setattr(checkpoints, "write_checksums", full)
                going_on.save(3, large, {"iteration": 3, "base_hash": "0"}, 1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        monkeypatch.undo()
    assert latest_checkpoint(run) == run / "2"
    save(run, [0.3], first=3, after=run / "2")
    assert latest_checkpoint(run) == run / "3"
