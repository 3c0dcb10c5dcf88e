"""Problem files: there and back, and every kind of damage named with file and line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from reoac_jax.system.errors import InputError
from reoac_jax.tasks import Problem
from reoac_jax.tasks.dataset import read_problems, read_rows, stream_split, write_problems

_GOOD = b'{"id": "a", "prompt": "p", "target_answer": "1", "task": "gsm8k", "metadata": {}}\n'


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
                min_size=1, max_size=5))  # fmt: skip
def test_there_and_back(tmp_path_factory, prompts):
    path = tmp_path_factory.mktemp("problems") / "x.jsonl"
    problems = [
        Problem(f"gsm8k/train/{index}", prompt, "1", "gsm8k", {"solution": prompt})
        for index, prompt in enumerate(prompts)
    ]
    write_problems(path, problems)
    assert read_problems(path, "gsm8k") == problems


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x.jsonl is empty"),
        (_GOOD + b"{oops\n", r"x.jsonl:2: malformed JSON"),
        (b"\xef\xbb\xbf\n \r\n", r"x.jsonl is empty"),
        (_GOOD + b"\n\n{oops\n", r"x.jsonl:4: malformed JSON"),
        (_GOOD.decode().encode("utf-16"), r"x.jsonl:1: byte 1 is not UTF-8"),
        (_GOOD + b"[1]\n", r"x.jsonl:2: holds \[1\]; expected a JSON object"),
        (_GOOD + b"\xff\xfe\n", r"x.jsonl:2: byte 1 is not UTF-8"),
        (_GOOD + _GOOD, r"x.jsonl:2: id 'a' occurs a second time"),
        (_GOOD.replace(b'"prompt": "p", ', b""), r"x.jsonl:1: field 'prompt' is missing"),
        (_GOOD.replace(b'"p"', b'"  "'), r"x.jsonl:1: field 'prompt' is '  '"),
        (_GOOD.replace(b'"p"', b'"\\ud800"'), r"x.jsonl:1: field 'prompt' holds half a surrogate"),
        (_GOOD.replace(b'"1"', b"1"), r"x.jsonl:1: field 'target_answer' is 1"),
        (_GOOD.replace(b"{}", b"[]"), r"x.jsonl:1: field 'metadata' is \[\]"),
        (_GOOD.replace(b"gsm8k", b"math"), r"x.jsonl:1: field 'task' is 'math'; expected 'gsm8k'"),
        (b"[" * 100_000, r"x.jsonl:1: malformed JSON"),
        (b"9" * 5000, r"x.jsonl:1: malformed JSON"),
    ],
)
def test_damage_is_named(tmp_path, content, message):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_problems(path, "gsm8k")


def test_byte_order_marks_and_blank_lines_are_no_rows(tmp_path):
    mark, other = b"\xef\xbb\xbf", _GOOD.replace(b'"a"', b'"b"')
    path = tmp_path / "x.jsonl"
    path.write_bytes(mark + _GOOD + b"\n \t\r\n" + mark + other.rstrip() + b"\r\n\n")
    rows = list(read_rows(path))
    assert [(row.index, row.place) for row in rows] == [(0, f"{path}:1"), (1, f"{path}:4")]
    assert [problem.id for problem in read_problems(path, "gsm8k")] == ["a", "b"]


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(InputError, match="download_data.sh math"):
        read_problems(tmp_path / "none.jsonl", "math")
    with pytest.raises(InputError, match="expected the problems"):
        read_problems(tmp_path, "math")


def test_the_last_training_problems_are_kept_for_development(tmp_path):
    problems = [Problem(f"gsm8k/train/{i}", "p", "1", "gsm8k", {}) for i in range(10)]
    write_problems(tmp_path / "train.jsonl", problems)
    write_problems(tmp_path / "test.jsonl", problems[:2])

    def task(dev_size):
        files = {f"{name}_file": str(tmp_path / f"{name}.jsonl") for name in ("train", "test")}
        return ConfigDict({"name": "gsm8k", "dev_size": dev_size, **files})

    assert list(stream_split(task(3), "train")) == problems[:7]
    assert list(stream_split(task(3), "dev")) == problems[7:]
    assert list(stream_split(task(3), "test")) == problems[:2]
    assert list(stream_split(task(0), "train")) == problems
    other = str(tmp_path / "test.jsonl")  # development problems of another file
    assert list(stream_split(task(1), "train", dev_file=other)) == problems
    assert list(stream_split(task(1), "dev", dev_file=other)) == problems[1:2]
    with pytest.raises(InputError, match=r"dev_size is 2; .* the 2 problems of .*test.jsonl"):
        list(stream_split(task(2), "dev", dev_file=other))
    with pytest.raises(InputError, match="task.dev_size is 0; expected 1 or more"):
        list(stream_split(task(0), "dev"))
    with pytest.raises(InputError, match="task.dev_size is 10; expected less than the 10 problems"):
        list(stream_split(task(10), "train"))
