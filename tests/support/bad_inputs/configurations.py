"""Configurations and overrides."""

from pathlib import Path

from support.bad_inputs.case import EVALUATE, LONG, RESUMED, TINY, Case, cut, edit, write


def nested(folder: Path) -> None:
    (folder / "deep.json").write_text('{"a":' * 9000 + "1" + "}" * 9000)


CASES = {
    # ---- Configurations
    "config is a folder": Case("train --config backbone", "backbone|.py or .json"),
    "config has a long name": Case(f"train --config {LONG}.py", "File name too long"),
    "config of another version": Case(
        "train --config run/config.json",
        "'objective.advantage' is missing|one of group, critic",
        edit(RESUMED, objective__advantage=None),
    ),
    "config with a key of another version": Case(
        "evaluate --config run/config.json --output out.json",
        "'rollout.noise' is unknown",
        edit(RESUMED, rollout__noise=1),
    ),
    "config with NaN": Case(
        "train --config run/config.json",
        "optimizer.actor_rate is nan|0.0 to 1.0",
        edit(RESUMED, optimizer__actor_rate=float("nan")),
    ),
    "config nested too deep": Case("train --config deep.json", "deep.json|expected", nested),
    "config with a NUL": Case(
        "train --config run/config.json", "exp_name|expected a text", edit(RESUMED, exp_name="a\0")
    ),
    "config with half a character": Case(
        "train --config run/config.json",
        "output_dir|expected a text",
        edit(RESUMED, output_dir="\ud800"),
    ),
    "config cut off": Case("solve --checkpoint run q", "config.json|JSON", cut(RESUMED)),
    "config is text": Case(
        "sft --config tiny.py", "tiny.py, line 1|expected", write("tiny.py", "a b\n")
    ),
    "config gives a dict": Case(
        "sft --config tiny.py",
        "tiny.py|expected ConfigDict",
        write("tiny.py", "def get_config():\n    return {}\n"),
    ),
    # ---- Overrides
    "unknown task": Case(f"train {TINY} --config.task.name=gsm9k", "gsm9k|did you mean 'gsm8k'"),
    "another task's keys": Case(
        "train --config tiny.py --config.task.name=gsm8k",
        "'task.train_part' is unknown|task.train_file",
    ),
    "unknown train part": Case(
        f"sft {TINY} --config.task.train_part=rest", "train_part=rest|all, supervised, reserved"
    ),
    "too many numbers": Case(f"train {TINY} --config.task.numbers=7", "numbers=7|from 3 to 6"),
    "unknown operator": Case(
        f"train {TINY} --config.rollout.fallback_operator=O_SWAP", "O_SWAP|one of O_NUM, O_OP"
    ),
    "unknown operator's cost": Case(
        f"train {TINY} --config.operators.O_SWAP.cost=1", "O_SWAP|did you mean"
    ),
    "unknown operator as policy": Case(f"evaluate {EVALUATE} --policy O_SWAP", "O_SWAP|O_NUM"),
    "unknown operator in a sequence": Case(
        f"evaluate {EVALUATE} --policy O_NUM,O_SWAP", "O_NUM,O_SWAP|O_FAST"
    ),
    "unknown operator to solve with": Case("solve --checkpoint run --policy O_X q", "O_X|O_NUM"),
    "branching before the first step": Case(
        f"train {TINY} --config.rollout.branch_steps=-1,", "branch_steps=-1,|expected a tuple"
    ),
    "head of no width": Case(
        f"train {TINY} --config.heads.actor_hidden=64,0", "actor_hidden=64,0|expected a tuple"
    ),
    "seed too large": Case(f"sft {TINY} --config.seed=2147483648", "seed=2147483648|2147483647"),
    "rate is NaN": Case(f"sft {TINY} --config.sft.learning_rate=nan", "learning_rate=nan|0.0 to"),
    "exp_name too long": Case(f"train {TINY} --config.exp_name={LONG}", "exp_name|expected"),
    "process beyond the last": Case(
        f"train {TINY} --config.distributed.index=1", "distributed.index is 1|expected 0 to 0"
    ),
    "coordinator without port": Case(
        f"train {TINY} --config.distributed.coordinator=host", "'host'|expected HOST:PORT"
    ),
    "cache of operators": Case(
        f"train {TINY} --config.rollout.cache=prefix", "rollout.cache is prefix|none in training"
    ),
    "cache of MDLM": Case(
        f"evaluate {EVALUATE} --policy threshold --config.rollout.cache=prefix",
        "rollout.cache is prefix|Backbone keeps no keys",
    ),
    "override of nothing": Case(f"solve {TINY} --config.=3 q", "--config.=3|--config.KEY=VALUE"),
    "unknown key far from all": Case(f"solve {TINY} --config.zzz=3 q", "'zzz'|expected"),
}
