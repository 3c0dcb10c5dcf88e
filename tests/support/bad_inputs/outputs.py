"""Where results go, and what reads them."""

from support.bad_inputs.case import (
    EVALUATE,
    LONG,
    RESUMED,
    SFT,
    TINY,
    Case,
    edit,
    folder_for,
    write,
)

CASES = {
    # ---- Outputs
    "output is a folder": Case(
        f"evaluate {EVALUATE} --policy O_OP",
        "out.json is a folder|expected a file",
        folder_for("out.json"),
    ),
    "answers are a folder": Case(
        f"evaluate {EVALUATE} --policy O_OP",
        "out.jsonl is a folder|expected a file",
        folder_for("out.jsonl"),
    ),
    "output below a file": Case(
        f"evaluate {TINY} --output tiny.py/out.json", "tiny.py/out.json|expected a folder"
    ),
    "output has a long name": Case(f"evaluate {TINY} --output {LONG}.json", "File name too long"),
    "limit of half a problem": Case(f"evaluate {EVALUATE} --limit 1.5", "--limit|'1.5'"),
    "runs below a file": Case(
        f"train {TINY} --config.output_dir=tiny.py", "run folder in tiny.py|expected"
    ),
    "fine-tuning below a file": Case(
        f"sft {SFT} --config.output_dir=tiny.py", "run folder in tiny.py|expected"
    ),
    # ---- Reports
    "report of a file": Case("report tiny.py", "tiny.py is no run folder|expected runs/"),
    "report of a run twice": Case("report run run/../run", "named twice|expected different"),
    "report of a half": Case("report run --episodes 1.5", "--episodes|'1.5'"),
    "report of a configuration that is not UTF-8": Case(
        "report run", "run/config.json|expected", write(RESUMED, b'{"exp_name": "\xe9"}')
    ),
    "report of a configuration that is a list": Case(
        "report run", "run/config.json|expected a run's", write(RESUMED, [])
    ),
    "report of metrics that are a folder": Case(
        "report run", "metrics.jsonl|expected", folder_for("run/metrics.jsonl")
    ),
    "report of an evaluation that is a list": Case(
        "report run --eval evaluation.json",
        "evaluation.json|expected",
        write("evaluation.json", []),
    ),
    "report of an evaluation in words": Case(
        "report run --eval evaluation.json",
        "evaluation.json|expected",
        edit("evaluation.json", accuracy="high"),
    ),
    "report of an evaluation that is not UTF-8": Case(
        "report run --eval evaluation.json",
        "evaluation.json|expected",
        write("evaluation.json", b"\xff"),
    ),
    "report of an evaluation without an interval": Case(
        "report run --eval evaluation.json",
        "evaluation.json|expected",
        edit("evaluation.json", interval_95=[0.5]),
    ),
    "report of an evaluation that is not finite": Case(
        "report run --eval evaluation.json",
        "evaluation.json|expected",
        edit("evaluation.json", accuracy=float("nan")),
    ),
    "report with a long name": Case(f"report {LONG}", "File name too long"),
    # ---- Watching
    "watching a file": Case("watch tiny.py", "tiny.py is no run folder|expected runs/"),
    "watching two": Case("watch run run", "'run' is unknown"),
    "watching nothing": Case("watch", "RUN_DIR"),
    "watching an unreadable configuration": Case(
        "watch run", "run/config.json|expected", write(RESUMED, b"\xff\xfe{}")
    ),
    "watching a length in words": Case(
        "watch run", "run/config.json|expected", edit(RESUMED, train__iterations="many")
    ),
    "watching metrics that are a folder": Case(
        "watch run", "metrics.jsonl|expected", folder_for("run/metrics.jsonl")
    ),
    "watching a configuration without fine-tuning": Case(
        "watch run",
        "run/config.json|sft",
        lambda folder: [
            edit(RESUMED, sft=None)(folder),
            write("run/metrics.jsonl", '{"iteration": 0, "nelbo": 1.0}\n')(folder),
        ],
    ),
}
