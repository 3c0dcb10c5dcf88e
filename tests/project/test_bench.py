"""The benchmark's arithmetic, and that every program of it runs."""

import dataclasses
import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from reoac_jax.system.errors import run_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workload(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmark import workload

    return workload


def test_operations_of_the_published_backbone(workload):
    """85.0 M weights see every token and 38.6 M those that are generated; the rest is attention."""
    config = workload.WORKLOADS["owt"].config
    assert workload.trunk_parameters(config) == pytest.approx(85.0e6, rel=1e-3)
    assert workload.head_parameters(config) == pytest.approx(38.6e6, rel=1e-3)
    one = workload.forward_operations(config, [124], 64)
    attention = 12 * 2 * (2 * 124 * 124 * 768)
    assert one == 2 * (12 * 12 * 768**2 * 124 + 768 * 50258 * 64) + attention
    assert workload.forward_operations(config, [124, 124], 64) == 2 * one


def test_prompt_lengths_are_gsm8ks(workload):
    lengths = workload.WORKLOADS["owt"].prompt_lengths(4000)
    assert lengths.mean() == pytest.approx(55.2, abs=2) and lengths.max() <= 213
    assert (lengths == workload.WORKLOADS["owt"].prompt_lengths(4000)).all()


@pytest.mark.slow
def test_programs_are_timed_side_by_side(workload, tmp_path, monkeypatch, capsys):
    """Of one block, beside small products; that the file runs by itself is tested below."""
    from benchmark import machine

    tiny = workload.WORKLOADS["tiny"]
    one_block = dataclasses.replace(tiny, config=dataclasses.replace(tiny.config, n_blocks=1))
    monkeypatch.setitem(workload.WORKLOADS, "tiny", one_block)
    monkeypatch.setattr(machine, "_CPU_SIZE", 256)
    output = tmp_path / "bench.json"
    argv = [
        "--size", "tiny", "--rows", "4", "--steps", "2", "--repeats", "1", "--dtypes", "float32",
        "--what", "matmul,forward,rollout,lora", "--output", str(output),
    ]  # fmt: skip
    main = runpy.run_path(str(ROOT / "scripts" / "bench.py"))["main"]
    assert run_command(main, argv) == 0
    printed = capsys.readouterr().out
    result = json.loads(output.read_text())
    names = {program["name"] for program in result["programs"]}
    ours = {"forward", "rollout", "lora update"}
    assert {f"{name}, ours float32" for name in ours} <= names
    if importlib.util.find_spec("torch") is not None:
        assert {f"{name}, PyTorch float32" for name in ours - {"rollout"}} <= names
    for program in result["programs"]:
        assert program["seconds"] > 0 and program["name"] in printed
    assert (
        result["machine"]["versions"]["jax"] and result["ceilings"]["matrix product float32"] > 1e8
    )
    assert "--size tiny" in result["command"]


@pytest.mark.process
def test_a_wrong_option_is_one_line():
    command = [sys.executable, "scripts/bench.py", "--what", "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: --what is 'speed'")
