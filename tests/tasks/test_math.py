"""MATH grading in worker processes: right answers, wrong ones, hanging and dying items."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reoac_jax.system.errors import InputError, RunError
from reoac_jax.tasks import grading_pool
from reoac_jax.tasks.boxed import last_boxed, without_repeated_answer
from reoac_jax.tasks.dataset import RawRow, read_rows
from reoac_jax.tasks.families.math import problem_from_row
from reoac_jax.tasks.grading_pool import GradingPool, _Worker

# Comparing these keeps SymPy busy for ever: the powers are evaluated digit by digit.
_HANGS = r"\boxed{\left(7^{7^{8}}\right)!}", "5041"


@pytest.fixture(scope="module")
def pool():
    pool = GradingPool(workers=2, timeout=2.0)
    yield pool
    pool.close()


def _gone(process_id):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{process_id}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{\frac{1}{2}} then \boxed{ \frac{a}{b} }.", r"\frac{a}{b}"),
        (r"\boxed{1} and \boxed{unclosed", "1"),
        (r"\boxed 5", "5"),
        (r"\fbox{7}", "7"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{12\\} and {", r"12\\"),
        (r"\boxed{12\ }", "12\\ "),
        ("none", None),
        ("", None),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


def test_repeated_answer_is_dropped_only_where_it_repeats():
    assert without_repeated_answer(r"is \boxed{5}.$The answer is: 5") == r"is \boxed{5}.$"
    assert without_repeated_answer(r"is \boxed{5}. The answer is: 6").endswith("6")


def test_raw_layouts():
    hub = {"problem": "p", "level": "Level 1", "type": "Algebra", "solution": r"is $\boxed{3}$."}
    short = {"problem": "p", "level": "Level 1", "subject": "Algebra", "unique_id": "u",
             "answer": "3"}  # fmt: skip
    long = {"question": "p", "answer": r"is $\boxed{3}$.The answer is: 3"}
    problems = [problem_from_row(RawRow(values, "f:1", 0), "test") for values in (hub, short, long)]
    assert [problem.target_answer for problem in problems] == ["3", "3", "3"]
    assert (
        problems[0].metadata["solution"] == problems[2].metadata["solution"] == r"is $\boxed{3}$."
    )
    assert "solution" not in problems[1].metadata and problems[1].metadata["unique_id"] == "u"
    with pytest.raises(InputError, match=r"f:1: the solution holds no complete"):
        problem_from_row(RawRow({"problem": "p", "solution": "no box"}, "f:1", 0), "train")


@pytest.mark.parametrize(
    ("text", "answer", "correct"),
    [
        (r"\boxed{\frac{1}{2}}", "0.5", True),
        (r"\boxed{\frac{1}{2}}", r"\dfrac12", True),
        ("The answer is $2x+1$.", "1+2x", True),
        (r"first \boxed{3}, then \boxed{4}", "3", False),
        (r"\boxed{5}", "6", False),
        ("no answer", "6", False),
        ("", "6", False),
    ],
)
def test_verdicts(pool, text, answer, correct):
    (verdict,) = pool.judge([(text, answer)])
    assert verdict.correct == correct and not verdict.failed


def _cases():
    lines = (Path(__file__).parent / "cases" / "math_texts.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in lines.splitlines()]


def test_given_texts(pool):
    cases = _cases()
    verdicts = pool.judge([(case["text"], case["target"]) for case in cases])
    wrong = [c for c, v in zip(cases, verdicts, strict=True) if v.correct != c["correct"]]
    assert wrong == []


def test_unicode_and_punctuation_of_other_kinds(pool):
    same = [
        ("x\u00b2", "x^2"), ("10\u207b\u00b3", "10^{-3}"), ("\u221a(x+1)", r"\sqrt{x+1}"),
        ("\u221b8", "2"), ("2\u00bd", r"2\frac12"), ("5\u00d73", "15"), ("\u22125", "-5"),
        ("\uff15", "5"), ("\u0665", "5"), ("x \u2264 5", r"x\le5"), ("12\u3002", "12"),
        ("12~", "12"),
        (r"12\text{.}", "12"), (r"\text{Evelyn.}", r"\text{Evelyn}"), ("$12.$", "12"),
        (r"1\,024", "1024"), (r"90\degree", r"90^\circ"), (r"\varnothing", r"\emptyset"),
        (r"\mathbb R", r"\mathbb{R}"), (r"\color{red}{5}", "5"), (r"\textcolor{blue}{5}", "5"),
        (r"\color{red}5", "5"), (r"12.\quad", "12"),
        (".5.", "0.5"), (r"\frac{1}{2}.", "0.5"), ("{12.}", "12"),
    ]  # fmt: skip
    other = [("12!", "12"), ("\u00bd", "2"), ("x\u00b2", "x2"), (".12", "12"), ("2\u221a3", "23")]
    verdicts = pool.judge(
        [(rf"so \boxed{{{written}}}", answer) for written, answer in same + other]
    )
    right = [verdict.correct for verdict in verdicts]
    assert right == [True] * len(same) + [False] * len(other)


def test_a_unit_in_the_number_s_command_and_the_imaginary_unit(pool):
    same = [
        (r"\text{12 apples}", "12"), (r"\mathrm{12\ cm}", "12"), ("12", r"\text{12 apples}"),
        (r"\text{12 apples}", r"12\text{ apples}"), (r"\text{12 apples}", r"\frac{24}{2}"),
        (r"2+3\mathrm{i}", "2+3i"), ("2+3 i", "2+3i"), ("2i", r"2\mathrm i"), (r"2\imath", "2i"),
        (r"e^{2\pi i/3}", r"e^{2i\pi/3}"), (r"e^{\mathrm{i}\pi}", "-1"), ("z=2+3i", "z=2+3 i"),
        (r"\begin{pmatrix}1\\ i\end{pmatrix}", r"\begin{pmatrix}1\\\mathrm{i}\end{pmatrix}"),
        ("i>2", "i>2"), ("x+yi", "x+y i"),
        ("1 234", "1234"), ("1\u202f234 567", "1{,}234{,}567"),
        (r"2\text{ million}", r"2\text{ million}"),
    ]  # fmt: skip
    other = [
        (r"\text{12 apples}", "13"), (r"\text{12 apples}", "12x"), (r"\text{3 million}", "3"),
        (r"\text{6 am}", r"\text{6 pm}"), (r"\text{6 am}", r"6\text{ pm}"), ("2-3i", "2+3i"),
        (r"12\text{ thousand}", "12"), ("12", r"12\text{ thousand}"), ("2 millions", "2"),
        (r"\ge 5", "5"), ("\u22655", "5"), ("<5", "5"), (r"\sqrt2 345", r"\sqrt{2345}"),
        (r"\text{1 and 4}", "1"), ("3i", "3"), ("2", "2+3i"), ("i", "j"), ("-i", r"\mathrm{i}"),
    ]  # fmt: skip
    verdicts = pool.judge(
        [(rf"so \boxed{{{written}}}", answer) for written, answer in same + other]
    )
    right = [verdict.correct for verdict in verdicts]
    assert right == [True] * len(same) + [False] * len(other)


# What writers of LaTeX put around an answer: it is not part of it.
SPACE = [
    "\\\\", "\\\\[2pt]", "\\\\\\\\", "\\ ", "~", "\\,", "\\!", "\\;", "\\enspace", "\\enskip",
    "\\quad", "\\qquad", "\\thinspace", "\\negthinspace", "\\hspace{1em}", "\\hspace*{-2mm}",
    "\\hskip 1em", "\\kern1pt", "\\mskip 5mu", "\\hfill", "\\vspace{3pt}", "\\phantom{0}",
    "\\hphantom{x}", "\\space", "\\strut", "\\null", "\\relax", "\\newline", "\\linebreak[1]",
    "\\par", "\\smallskip", "\\mbox{}", "\\text{ }", "\\quad.", ".\\quad", "\\,.\\\\",
    "\\quad\\quad",
]  # fmt: skip


def test_space_around_an_answer_is_not_part_of_it(pool):
    answers = ["12{}", r"\frac{3}{4}", "x+1", r"\{1,2\}", r"\begin{pmatrix}1\\2\end{pmatrix}"]
    behind = [(rf"so \boxed{{{answer}{space}}}", answer) for answer in answers for space in SPACE]
    before = [
        (rf"so \boxed{{{space} {answer}}}", answer)
        for answer in answers
        for space in SPACE
        if "." not in space
    ]
    items = behind + before
    wrong = [
        text
        for (text, _), verdict in zip(items, pool.judge(items), strict=True)
        if not verdict.correct
    ]
    assert wrong == []
    others = [
        (r"\boxed{12\phantom{0}}", "120"), (r"\boxed{1\quad 2}", "1"), (r"\boxed{\quad}", "0"),
        (r"\boxed{\\}", "0"), (r"\boxed{x^{}}", "x+1"), (r"\boxed{12\parallel}", "12"),
    ]  # fmt: skip
    assert not any(verdict.correct for verdict in pool.judge(others))


@pytest.mark.slow
def test_right_answers_with_punctuation_in_the_box(pool, shared_data):
    rows = list(read_rows(shared_data / "math" / "train.jsonl"))[:200]
    answers = [problem_from_row(row, "train").target_answer for row in rows]
    plain = pool.judge([(rf"\boxed{{{answer}}}", answer) for answer in answers])
    for mark in (".", ",", r".\,"):
        dressed = pool.judge([(rf"\boxed{{{answer}{mark}}}", answer) for answer in answers])
        assert [v.correct for v in dressed] == [v.correct for v in plain]
    assert sum(verdict.correct for verdict in plain) >= 0.99 * 200


@pytest.mark.slow
def test_many_unclosed_boxes_take_no_time():
    start = time.monotonic()
    assert last_boxed(r"\boxed{" * 20_000) is None
    assert time.monotonic() - start < 5.0


@pytest.mark.slow
def test_math500_against_itself_and_against_others(pool, shared_data):
    rows = list(read_rows(shared_data / "math" / "test_500.jsonl"))
    problems = [problem_from_row(row, "test") for row in rows]
    answers = [problem.target_answer for problem in problems]
    solutions = [problem.metadata["solution"] for problem in problems]
    own = pool.judge(list(zip(solutions, answers, strict=True)))
    assert sum(verdict.correct for verdict in own) >= 0.99 * 500
    as_stored = pool.judge(
        [(row.values["answer"], a) for row, a in zip(rows, answers, strict=True)]
    )
    assert sum(verdict.correct for verdict in as_stored) >= 0.99 * 500
    others = random.Random(0).sample(answers, 500)
    pairs = [(s, o) for s, a, o in zip(solutions, answers, others, strict=True) if a != o]
    assert len(pairs) > 450
    assert sum(verdict.correct for verdict in pool.judge(pairs)) <= 0.005 * len(pairs)


@pytest.mark.slow
def test_a_hanging_item_is_wrong_and_the_rest_goes_on(pool):
    start = time.monotonic()
    verdicts = pool.judge([(r"\boxed{1}", "1"), _HANGS, (r"\boxed{2}", "2"), (r"\boxed{3}", "3")])
    assert [verdict.correct for verdict in verdicts] == [True, False, True, True]
    assert [verdict.failed for verdict in verdicts] == [False, True, False, False]
    assert time.monotonic() - start < 20


@pytest.mark.slow
def test_a_killed_worker_costs_no_verdict(pool):
    pool.judge([(r"\boxed{1}", "1")] * 2)
    for process_id in pool.process_ids:
        os.kill(process_id, signal.SIGKILL)
    verdicts = pool.judge([(r"\boxed{1}", "1")] * 8)
    assert all(verdict.correct for verdict in verdicts)


@pytest.mark.slow
@pytest.mark.parametrize(("deaths", "failed"), [(1, False), (2, True)])
def test_an_item_is_tried_twice_and_no_more(monkeypatch, deaths, failed):
    """The worker is killed while the first item is with it, once or twice."""
    pool = GradingPool(workers=1, timeout=20.0)
    pool.judge([(r"\boxed{1}", "1")])
    wait_for_reply = _Worker._reply
    killed = []

    def killing_reply(worker, limit):
        if limit == 20.0 and len(killed) < deaths:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
            pipe = os.dup(worker.process.stdout.fileno())
            while os.read(pipe, 1 << 16):  # a reply it may have sent before it died
                pass
            os.close(pipe)
        return wait_for_reply(worker, limit)

    monkeypatch.setattr(_Worker, "_reply", killing_reply)
    try:
        verdicts = pool.judge([(r"\boxed{2}", "2"), (r"\boxed{1}", "1")])
    finally:
        pool.close()
    assert len(set(killed)) == deaths
    assert [verdict.failed for verdict in verdicts] == [failed, False]
    assert [verdict.correct for verdict in verdicts] == [not failed, True]


@pytest.mark.slow
def test_a_worker_killed_while_it_starts_is_replaced(monkeypatch):
    """The item is tried once more; a worker that ends by itself stops the run."""
    pool = GradingPool(workers=1, timeout=20.0)
    start, killed = subprocess.Popen, []

    def killed_at_once(*arguments, **keywords):
        process = start(*arguments, **keywords)
        if not killed:
            process.kill()
            killed.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", killed_at_once)
    try:
        (verdict,) = pool.judge([(r"\boxed{1}", "1")])
        assert verdict.correct and pool.process_ids != killed
        os.kill(pool.process_ids[0], signal.SIGTERM)  # is for the run, not for its worker
        process_ids = pool.process_ids
        assert pool.judge([(r"\boxed{1}", "1")])[0].correct and pool.process_ids == process_ids
        pool.close()
        monkeypatch.setattr(grading_pool.sys, "executable", "/bin/false")
        with pytest.raises(RunError, match="grading process does not start; /bin/false -m"):
            pool.judge([(r"\boxed{1}", "1")])
    finally:
        pool.close()


@pytest.mark.slow
def test_workers_import_no_jax_and_end_with_close():
    pool = GradingPool(workers=2, timeout=5.0)
    pool.judge([(r"\boxed{1}", "1")] * 2)
    process_ids = pool.process_ids
    assert len(process_ids) == 2
    for process_id in process_ids:
        with open(f"/proc/{process_id}/maps") as maps:
            assert "jaxlib" not in maps.read()
    pool.close()
    pool.close()
    assert all(_gone(process_id) for process_id in process_ids)


@pytest.mark.process
def test_no_worker_outlives_a_killed_run():
    program = (
        "import threading, time\n"
        "from reoac_jax.tasks.grading_pool import GradingPool\n"
        "pool = GradingPool(2, 2.0)\n"
        "pool.judge([(chr(92) + 'boxed{1}', '1')] * 2)\n"
        "print(*pool.process_ids, flush=True)\n"
        f"threading.Thread(target=pool.judge, args=([{_HANGS!r}],)).start()\n"
        "time.sleep(60)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    process_ids = [int(word) for word in run.stdout.readline().split()]
    time.sleep(0.5)
    run.kill()
    run.wait()
    run.stdout.close()
    assert len(process_ids) == 2
    assert all(_gone(process_id) for process_id in process_ids)
