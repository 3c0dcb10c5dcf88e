"""Prompts, problems and texts, for running and for preparing them."""

from collections.abc import Callable
from pathlib import Path

from support.bad_inputs.case import (
    EVALUATE,
    GSM8K,
    SFT,
    TINY,
    Case,
    cut,
    edit,
    folder_for,
    remove,
    write,
)


def problem(**changes: object) -> Callable[[Path], object]:
    return edit("train.jsonl", **changes)


CASES = {
    # ---- Prompts and contexts
    "answer longer than the context": Case(
        f"sft {SFT} --config.rollout.gen_len=60", "rollout.gen_len is 76|context of 64"
    ),
    "prompt longer than the context": Case(
        f"evaluate {EVALUATE} --policy margin --config.rollout.max_prompt_len=64", "is 84|of 64"
    ),
    "no room for a prompt": Case(
        f"train {TINY} --config.rollout.max_prompt_len=0", "max_prompt_len=0|from 1 to 4096"
    ),
    "question of nothing": Case("solve --checkpoint run ''", "'' has 0 tokens|expected 1 to 16"),
    "blank of no token": Case("solve --checkpoint run [MASK:0]", "[MASK:0]|expected 1 or more"),
    "no question on standard input": Case(
        "solve --checkpoint run", "standard input|expected one a line", piped=b"\n \n"
    ),
    "question that is not UTF-8": Case(
        "solve --checkpoint run", "standard input|expected UTF-8", piped=b"1 2 3\n\xff = 4 ?\n"
    ),
    # ---- Problems
    "problems are empty": Case(
        f"train {GSM8K}", "train.jsonl is empty|expected", write("train.jsonl", "")
    ),
    "problems are blank": Case(
        f"sft {GSM8K}",
        "train.jsonl is empty|expected one JSON object a line",
        write("train.jsonl", "\n"),
    ),
    "problems are not UTF-8": Case(
        f"sft {GSM8K}", "train.jsonl:1: byte 3|expected UTF-8", write("train.jsonl", b'{"\xe9"}\n')
    ),
    "problems are UTF-16": Case(
        f"train {GSM8K}",
        "train.jsonl:1|expected UTF-8",
        write("train.jsonl", "{}".encode("utf-16")),
    ),
    "problems begin with a mark and a blank line": Case(
        f"train {GSM8K}",
        "train.jsonl:3: malformed|expected",
        write("train.jsonl", b"\xef\xbb\xbf\r\n\n{"),
    ),
    "problems are cut off": Case(
        f"evaluate {GSM8K} --output out.json --policy O_OP",
        "train.jsonl:1: malformed|expected",
        cut("train.jsonl"),
    ),
    "problems are a list": Case(
        f"train {GSM8K}", "train.jsonl:1|expected a JSON object", write("train.jsonl", "[1]")
    ),
    "problems are a folder": Case(
        f"train {GSM8K}", "train.jsonl|expected", folder_for("train.jsonl")
    ),
    "problem without a prompt": Case(
        f"train {GSM8K}",
        "train.jsonl:1: field 'prompt' is missing|expected a text",
        problem(prompt=None),
    ),
    "problem of another type": Case(
        f"sft {GSM8K}", "train.jsonl:1: field 'prompt' is 7|expected a text", problem(prompt=7)
    ),
    "problem of another task": Case(
        f"train {GSM8K}",
        "train.jsonl:1: field 'task' is 'math'|expected 'gsm8k'",
        problem(task="math"),
    ),
    "problem without a solution": Case(
        f"train {GSM8K}",
        "train.jsonl:1: problem gsm8k/train/0|metadata.solution|expected",
        problem(metadata={}),
    ),
    "problem whose solution is half a character": Case(
        f"sft {GSM8K}",
        "train.jsonl:1: field 'metadata'|surrogate|expected Unicode",
        problem(metadata__solution="\ud800"),
    ),
    "problem without a number": Case(
        f"train {GSM8K}",
        "train.jsonl:1: problem gsm8k/train/0|target_answer 'many'|expected exactly one number",
        problem(target_answer="many"),
    ),
    "problem evaluated without a number": Case(
        f"evaluate {GSM8K} --output out.json --policy O_OP",
        "train.jsonl:1: |'many'|expected exactly one number",
        problem(target_answer="many"),
    ),
    "problem of infinite depth": Case(
        f"train {GSM8K}",
        "train.jsonl:1: malformed|expected",
        write("train.jsonl", '{"id":' + "[" * 100_000),
    ),
    # ---- Texts
    "text is empty": Case(
        f"sft {TINY} --eval-only --text t", "t holds no text|expected", write("t", " \n")
    ),
    "text is not UTF-8": Case(
        f"sft {TINY} --eval-only --text t", "byte 4 is not UTF-8|expected", write("t", b"abc\xff")
    ),
    "text is a folder": Case(f"sft {TINY} --eval-only --text raw", "raw|expected"),
    # ---- Preparing data
    "source is a file": Case("prepare gsm8k gsm8k.py all --source tiny.py", "tiny.py|expected"),
    "source is half there": Case(
        "prepare gsm8k gsm8k.py all --source raw",
        "test.jsonl|expected the test problems",
        remove("raw/test.jsonl"),
    ),
    "source is empty": Case(
        "prepare gsm8k gsm8k.py train --source raw",
        "raw/train.jsonl is empty|expected",
        write("raw/train.jsonl", ""),
    ),
    "source is not UTF-8": Case(
        "prepare gsm8k gsm8k.py all --source raw",
        "raw/test.jsonl:1|expected UTF-8",
        write("raw/test.jsonl", b"\x80"),
    ),
    "source without an answer": Case(
        "prepare gsm8k gsm8k.py all --source raw",
        "raw/test.jsonl:1|'answer'|expected a text",
        edit("raw/test.jsonl", answer=" "),
    ),
    "source of another task": Case(
        "prepare gsm8k gsm8k.py all --source raw",
        "raw/train.jsonl:1|'question' is missing",
        write("raw/train.jsonl", {"problem": "p", "solution": "s"}),
    ),
    "task without data": Case("prepare countdown tiny.py all", "'countdown'"),
    "prepared file is a folder": Case(
        "prepare gsm8k gsm8k.py all --source raw --config.task.train_file=backbone",
        "cannot write backbone|expected",
    ),
    "prepared file below a file": Case(
        "prepare gsm8k gsm8k.py all --source raw --config.task.test_file=tiny.py/x",
        "cannot write tiny.py/x|expected",
    ),
    "prepared files are one": Case(
        "prepare gsm8k gsm8k.py all --source raw --config.task.test_file=one.jsonl "
        "--config.task.train_file=one.jsonl",
        "one.jsonl|expected",
    ),
}
