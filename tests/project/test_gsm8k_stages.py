"""`scripts/gsm8k.sh`: its stages, what is left out, what is refused, its costs and its table."""

import dataclasses
import importlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from reoac_jax.system.errors import InputError, RunError, run_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def parts(monkeypatch):
    """The chain's modules, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    names = ("sizes", "stages", "running", "cost", "table")
    return types.SimpleNamespace(
        **{name: importlib.import_module(f"gsm8k_stages.{name}") for name in names}
    )


@pytest.fixture
def command(monkeypatch, capsys, parts):
    """Runs the command; its exit code and what it printed."""
    names = runpy.run_path(str(ROOT / "scripts" / "gsm8k_run.py"))

    def run(*argv):
        return run_command(names["main"], [str(word) for word in argv]), capsys.readouterr()

    run.names = names
    return run


@pytest.mark.parametrize("data", [None, Path("/somewhere")])
@pytest.mark.parametrize("name", ["owt", "qwen3", "small"])
def test_every_stage_is_made_from_earlier_ones_and_has_a_legal_configuration(parts, name, data):
    size = parts.sizes.SIZES[name]
    stages = parts.stages.stages_of(size, data)
    hashes = parts.stages.hashes(stages)  # reads the configurations, and needs what is earlier
    assert len(set(hashes.values())) == len(stages) == len({stage.name for stage in stages})
    kinds = {stage.module.split(".")[-1].removesuffix("__main__") for stage in stages}
    assert kinds >= {"prepare", "sft", "train", "evaluate", "from_flax", "sweep_samplers"}
    fetched = {what for stage in stages for what in stage.downloads}
    assert fetched == (set() if data is not None else set(size.downloads))
    trained = [stage.run for stage in stages if stage.module == "reoac_jax.train"]
    assert len(trained) == size.seeds * (1 + len(size.actor_steps))


def test_a_hash_follows_what_would_be_computed(parts):
    size = parts.sizes.SIZES["small"]

    def hashes(changed, data=None):
        return parts.stages.hashes(parts.stages.stages_of(changed, data))

    before = hashes(size)
    assert before == hashes(size)
    slower = dataclasses.replace(size, sft_changes={**size.sft_changes, "sft.learning_rate": 1e-3})
    same = {name for name, value in hashes(slower).items() if value == before[name]}
    assert same == {"gsm8k", "start"}  # all that follows is made from it
    more = dataclasses.replace(size, dev=9)
    assert not set(hashes(more).values()) - {before["start"]} & set(before.values())
    assert hashes(size, Path("a"))["sft"] == hashes(size, Path("b"))["sft"] != before["sft"]


@pytest.fixture
def toy(parts, tmp_path, monkeypatch):
    """Three stages that write files, what they were called with, and their work's folder."""
    called, fails = [], set()

    def main(argv):
        name = argv[0]
        called.append(name)
        if name in fails:
            return fails.pop() and 1
        (tmp_path / f"{name}.txt").write_text("there")
        return 0

    monkeypatch.setitem(sys.modules, "toy_stage", types.SimpleNamespace(main=main))

    def stage(name, needs=(), **more):
        return parts.stages.Stage(name, "toy_stage", (name,), needs, f"{name}.txt", **more)

    stages = [stage("a"), stage("b", ("a",), whole=False), stage("c", ("b",))]
    work = parts.running.Work(tmp_path, None)

    def run(stages=stages):
        called.clear()
        code = parts.running.run_all(stages, parts.stages.hashes(stages), work)
        return code, list(called)

    return types.SimpleNamespace(run=run, fails=fails, stages=stages, work=work, folder=tmp_path)


@pytest.mark.slow
def test_what_is_there_is_left_out(toy, capsys):
    assert toy.run() == (0, ["a", "b", "c"])
    assert toy.run() == (0, [])
    assert capsys.readouterr().out.count("is there") == 3
    (toy.folder / "c.txt").unlink()
    assert toy.run() == (0, ["c"])


def test_a_stage_that_failed_is_run_again_and_nothing_ahead_of_it(toy):
    toy.fails.add("b")
    with pytest.raises(RunError, match="stage b ended with code 1"):
        toy.run()
    assert toy.work.begun() == "b"
    assert toy.run() == (0, ["b", "c"])
    assert toy.work.begun() is None


def test_what_a_kill_left_whole_is_done_and_what_may_be_half_is_not(toy, parts):
    toy.run()
    for name in ("a", "b"):  # as if killed before the record was written
        path = toy.folder / "stages" / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "begun"}))
    assert toy.run() == (0, ["b"])


def test_a_result_of_another_configuration_is_refused(toy, parts):
    toy.run()
    other = [dataclasses.replace(toy.stages[0], arguments=("a", "--more")), *toy.stages[1:]]
    with pytest.raises(InputError, match=r"a.json is of another configuration .*another --work"):
        toy.run(other)
    shutil.rmtree(toy.folder / "stages")
    with pytest.raises(InputError, match=r"a.txt is there, and no .*a.json; expected --work"):
        toy.run()


def test_a_training_goes_on_from_its_checkpoint(parts, tmp_path):
    size = parts.sizes.SIZES["small"]
    stage = next(s for s in parts.stages.stages_of(size, None) if s.name == "sft")
    work = parts.running.Work(tmp_path, None)
    assert work.command(stage)[:2] == ["--config", str(ROOT / "configs" / "gsm8k.py")]
    assert f"--config.backbone.path={tmp_path}/start" in work.command(stage)
    (tmp_path / "runs/sft/20260101-000000/checkpoints").mkdir(parents=True)  # killed before a save
    assert work.command(stage)[0] == "--config"
    run = tmp_path / "runs/sft/20260102-000000"
    (run / "checkpoints" / "30").mkdir(parents=True)
    assert work.command(stage) == ["--resume", str(run)]
    assert work.run_folder("sft") == run
    assert "resume" not in work.shown(stage)


def test_a_killed_process_is_one_line(command, toy):
    toy.fails.add("b")
    with pytest.raises(RunError):
        toy.run()
    dies = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    with pytest.raises(InputError, match="stage b was killed by signal 9; the same command goes"):
        command.names["supervised"](dies, toy.work)
    refuses = [sys.executable, "-c", "raise SystemExit(2)"]
    assert command.names["supervised"](refuses, toy.work) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--size", "smal"], "--size is 'smal'; expected one of owt, qwen3, small (did you mean"),
        (["--data", "nowhere"], "--data is nowhere; expected hub or a folder"),
        (["--data", "."], "holds no gsm8k/train.jsonl; expected gsm8k/train.jsonl, gsm8k/test"),
        (["--size", "small", "--work", "file"], "file, a file; expected a folder"),
        (["--device", "h100"], "--device is for --dry-run"),
        (["--dry-run", "--device", "h1000"], "argument --device: invalid choice: 'h1000'"),
        (["--config.seed=1"], "expected no override"),
    ],
)
def test_mistakes_end_in_one_line(command, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    code, printed = command(*argv)
    assert code == 2 and printed.err.count("\n") == 1 and message in printed.err
    assert os.listdir() == ["file"]


def test_the_plan_says_what_is_left_and_what_it_costs(command, parts, tmp_path, monkeypatch):
    one = parts.cost.Cost(download=5e6, operations=989e12 * 3600 * 0.4, memory=2e9)
    monkeypatch.setattr(parts.cost.Counted, "cost", lambda self, stage: one)
    monkeypatch.setattr(parts.cost, "found_card", lambda: None)
    code, printed = command("--size", "owt", "--dry-run", "--work", tmp_path / "w")
    assert code == 0 and not (tmp_path / "w").exists()
    lines = printed.out.splitlines()
    stages = parts.stages.stages_of(parts.sizes.SIZES["owt"], None)
    count = len(stages)
    facts = "5 MB to download; 1.42e+03 PFLOP, 1.00 h, 2.0 GB on the card"
    assert lines[0] == f"gsm8k [to do] {facts}"
    prepare = f"python -m reoac_jax.tasks.prepare gsm8k {ROOT}/configs/gsm8k.py all"
    assert lines[1].startswith(f"    {prepare} --config.task.train_file={tmp_path}/w/gsm8k_train")
    assert f"left to do: {5 * count} MB to download (about), {count:.1f} h on one" in printed.out
    assert "no card that is known was found here" in printed.out
    assert "40% of 989 TFLOP/s" in printed.out and "assumed" in printed.out
    assert "{" not in printed.out
    _, printed = command("--size", "owt", "--dry-run", "--device", "a100", "--work", tmp_path / "w")
    assert f"{count * 989 / 312:.1f} h on one NVIDIA A100 80GB\n" in printed.out


@pytest.mark.slow
def test_operations_are_those_of_the_products(parts, monkeypatch):
    """Against the formula of the benchmarks; a gradient computes the logits once more."""
    workload = importlib.import_module("benchmark.workload")
    size = parts.sizes.SIZES["small"]
    stages = {stage.name: stage for stage in parts.stages.stages_of(size, None)}
    counted = parts.cost.Counted(size)
    sizes = parts.cost.BACKBONES["tiny_mdlm"]
    row = workload.forward_operations(sizes, [24 + 24], 24)
    head = 2 * workload.head_parameters(sizes) * 24
    assert counted.cost(stages["eval-3-0"]).operations == pytest.approx(16 * 3 * row, rel=0.01)
    sweep = (24 + 24 + 3) * 8 * row  # two thresholds, at most a pass a token
    assert counted.cost(stages["dev"]).operations == pytest.approx(sweep, rel=0.01)
    steps = 60 * 16 * (3 * row + head)
    assert counted.cost(stages["sft"]).operations == pytest.approx(steps, rel=0.02)
    iteration = 16 * 3 * row + 2 * 16 * (3 * row + head)
    found = counted.cost(stages["trajectory-0"])
    assert found.operations == pytest.approx(2 * iteration, rel=0.02) and found.memory > 1e9
    assert counted.cost(stages["actor-3-0"]).operations == pytest.approx(2 * 16 * 3 * row, rel=0.01)
    assert counted.cost(stages["report"]) == parts.cost.Cost()


# ---- The table


def rows(path, **policies):
    """policies: name -> (sampler, passes, answers that are right of 100)."""
    with path.open("w") as file:
        for policy, (sampler, passes, right) in policies.items():
            line = {"policy": policy, "sampler": sampler, "forward_passes": passes,
                    "correct_by_problem": [int(i < right) for i in range(100)]}  # fmt: skip
            file.write(json.dumps(line) + "\n")


def test_the_table_compares_at_equal_passes_with_what_dev_has_chosen(parts, tmp_path):
    size = dataclasses.replace(
        parts.sizes.SIZES["small"], seeds=2, actor_steps=(4,), budgets=(4.0,)
    )
    rows(tmp_path / "dev.jsonl", t1=("threshold", 3, 20), t2=("threshold", 5, 40),
         c=("confidence", 4, 25), late=("margin", 9, 90))  # fmt: skip
    for name, more in (("test", 0), ("test-0", 10), ("test-1", 20)):
        rows(tmp_path / f"{name}.jsonl", t1=("threshold", 3, 10 + more),
             t2=("threshold", 5, 30 + more), c=("confidence", 4, 60))  # fmt: skip
    for seed, right in ((0, 45), (1, 55)):
        score = {"forward_passes": 4.0}
        (tmp_path / f"eval-4-{seed}.json").write_text(json.dumps(score))
        answers = [json.dumps({"correct": i < right}) for i in range(100)]
        (tmp_path / f"eval-4-{seed}.jsonl").write_text("\n".join(answers))
    tuned, trained, actor = parts.table.measured(size, tmp_path)
    # Halfway between 10 and 30 of 100; confidence's 60 on test were not known on dev.
    assert tuned.what == "fine-tuned, threshold" and tuned.accuracy.mean == pytest.approx(0.2)
    assert tuned.accuracy.low == pytest.approx(0.133, abs=2e-3) and tuned.difference is None
    assert trained.accuracy.mean == pytest.approx(0.35) and trained.seeds == 2
    assert trained.difference.mean == pytest.approx(0.15)
    assert (actor.passes, actor.accuracy.mean) == (4.0, 0.5)
    assert actor.difference.mean == pytest.approx(0.15) and "to threshold" in actor.what
    assert actor.difference.low < 0.15 < actor.difference.high

    table = parts.table.write_table(size, tmp_path)
    assert table == (tmp_path / "table.md").read_text()
    assert "| 170M, learned order | 4.0 | 33.1% |" in table and table.count("\n") == 16
    assert len(json.loads((tmp_path / "table.json").read_text())["measured"]) == 3


# ---- The whole of it


@pytest.mark.slow
@pytest.mark.process
def test_the_small_size_from_data_to_table(tmp_path):
    """Two samplers and some rows; a stage that was killed; and a second call, that does nothing."""
    work = tmp_path / "work"
    command = ["bash", "scripts/gsm8k.sh", "--size", "small", "--work", str(work)]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHON": sys.executable,
        # What the tests have compiled once, they need not compile again.
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax_tests"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.03",
    }

    def run():
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    table = (work / "table.md").read_text()
    assert table in done.stdout and table.count(" 1 seed |") >= 3
    assert (work / "report" / "index.html").is_file()
    card = (work / "model" / "README.md").read_text()
    assert "gsm8k" in card and (work / "model" / "model.safetensors").is_file()
    scores = json.loads((work / "eval-3-0.json").read_text())
    assert scores["samples"] == 16 and scores["split"] == "test"
    dev = [json.loads(line) for line in (work / "dev.jsonl").read_text().splitlines()]
    assert len(dev) == 3 and all(len(row["correct_by_problem"]) == 8 for row in dev)
    losses = [
        json.loads(line)["loss"]
        for path in work.glob("runs/sft/*/metrics.jsonl")
        for line in path.read_text().splitlines()
        if "loss" in json.loads(line)
    ]
    assert np.mean(losses[-2:]) < losses[0]

    # As if killed while the last but one was being written.
    record = work / "stages" / "report.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"state": "begun"}))
    again = run()
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("is there") == done.stdout.count("== ") - 1
    assert (work / "table.md").read_text() == table
