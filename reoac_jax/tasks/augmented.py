"""GSM8K, augmented: some 385 000 problems whose solutions are equations (arXiv 2405.14838).

On the hub (`zen-E/GSM8k-Aug`) a row has `question`, `cot`, the equations, and `answer`; its authors
publish the same as lines of text,

    question||<<600*30/100=180>> <<600*10/100=60>> #### 360
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

from reoac_jax.system.errors import InputError
from reoac_jax.system.files import looked_in
from reoac_jax.tasks.answers import MARK, target_answer
from reoac_jax.tasks.dataset import RawRow
from reoac_jax.tasks.task import Problem, Split

_BETWEEN = "||"


def read_lines(path: str | Path) -> Iterator[RawRow]:
    """Yields the problems of a text file in UTF-8, with the hub's fields; blank lines are none.

    Raises `InputError` with file and line where a line is not UTF-8 or not of that form, and with
    the file's name where it cannot be read or holds no line.
    """
    path = Path(path)
    index = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                line = line.removeprefix(codecs.BOM_UTF8).strip()
                if line:
                    yield _row(line, f"{path}:{number}", index)
                    index += 1
    except OSError as error:
        raise InputError(f"cannot read {path}{looked_in(path)}: {error.strerror}") from None
    if index == 0:
        raise InputError(f"{path} is empty; expected lines of {_FORM}")


_FORM = f"question{_BETWEEN}<<..>> <<..>> {MARK} number"


def _row(line: bytes, place: str, index: int) -> RawRow:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"byte {error.start + 1} is not UTF-8; expected UTF-8 text"
        raise InputError(f"{place}: {what}") from None
    for mark in (_BETWEEN, MARK):
        if (count := text.count(mark)) != 1:
            raise InputError(f"{place}: {mark} stands in it {count} times; expected {_FORM}")
    question, _, solution = text.partition(_BETWEEN)
    equations, _, answer = solution.partition(MARK)
    values = {"question": question.strip(), "cot": equations.strip(), "answer": answer.strip()}
    return RawRow(values, place, index)


def problem_from_row(row: RawRow, split: Split) -> Problem | None:
    """A row as a problem of the task gsm8k; None where its answer is not exactly one number.

    A few of the published ones are not. Raises `InputError` naming the row's place where a field is
    missing or no text.
    """
    question, answer = row.text("question"), row.text("answer")
    equations = row.values.get("cot")
    if not isinstance(equations, str):
        raise row.error(f"field 'cot' is {equations!r:.60}; expected a text")
    final = answer.rpartition(MARK)[2].strip()
    if target_answer(final) is None:
        return None
    solution = f"{equations} {MARK} {final}".lstrip()
    return Problem(
        f"gsm8k_aug/{split}/{row.index}", question, final, "gsm8k", {"solution": solution}
    )
