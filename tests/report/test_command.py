"""The command line: what it writes for whole, empty and killed runs, and what it refuses."""

import csv
import json
import re
import shlex
from html.parser import HTMLParser

import pytest
from support.simulated_run import write_evaluation, write_run

from reoac_jax.report.__main__ import main
from reoac_jax.system.errors import run_command

pytestmark = pytest.mark.slow  # the report takes seconds to draw
PICTURES = {
    "reward_accuracy", "losses", "cost_forward_passes", "accuracy_against_cost",
    "operator_shares_by_iteration", "operator_shares_by_step", "actor_entropy",
    "critic_against_return", "relation_map", "feature_projection",
}  # fmt: skip


class Page(HTMLParser):
    """Elements' attributes, and the text of scripts and of everything else."""

    def __init__(self, html: str):
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._tag = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._tag = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._tag = ""

    def handle_data(self, data):
        if self._tag == "script":
            self.scripts[-1] += data
        elif self._tag != "style":
            self.text += data

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


def report(*argv) -> int:
    return run_command(main, [str(argument) for argument in argv])


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A report of two runs with evaluations; the folder that holds the runs and `report/`.

    The second run was killed while it wrote its metrics.
    """
    folder = tmp_path_factory.mktemp("two_runs") / 'my "runs" $(touch ran)'
    for name in ("one", "two"):
        write_run(folder / name, iterations=3, seed=len(name) + ord(name[0]), exp_name=name)
    with (folder / "two" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "reward": 0.')
    files = [write_evaluation(folder / f"{p}.json", p, 0.3) for p in ("confidence", "O_NUM")]
    argv = [folder / "one", folder / "two", "--eval", *files, "--output", folder / "report"]
    assert report(*argv) == 0
    return folder


def test_its_commands_can_be_pasted(two_runs):
    page = Page((two_runs / "report" / "index.html").read_text())
    for run in (two_runs / "one", two_runs / "two"):
        config = ["--config", run / "config.json"]
        for words in (
            ["train", *config],
            ["train", "--resume", run],
            ["evaluate", *config, "--checkpoint", run / "checkpoints",
             "--output", run / "evaluation.json"],
        ):  # fmt: skip
            command = ["python", "-m", f"reoac_jax.{words[0]}", *map(str, words[1:])]
            assert shlex.join(command) in page.text


def test_every_picture_and_every_series_is_written(two_runs):
    names = {path.stem for path in (two_runs / "report" / "pictures").glob("*.png")}
    assert names == PICTURES | {"relation_map_2"}
    for path in (two_runs / "report" / "series").glob("*.csv"):
        rows = list(csv.reader(path.open()))
        assert len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])}
    assert {path.stem for path in (two_runs / "report" / "series").glob("*.csv")} == names
    rows = list(csv.DictReader((two_runs / "report" / "series" / "losses.csv").open()))
    assert [row["iteration"] for row in rows] == ["0", "1", "2"] * 2


def test_the_page_is_whole_and_takes_nothing_from_elsewhere(two_runs):
    page = Page((two_runs / "report" / "index.html").read_text())
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "data", "srcset"):
            beside = re.fullmatch(r"(pictures|series)/\w+\.(png|csv)", value)
            assert beside or value.startswith(("#", "data:")), (tag, name, value)
            assert not beside or (two_runs / "report" / value).is_file()
    ids = page.values("id")
    assert len(ids) == len(set(ids)) and PICTURES <= set(ids)
    named = {value[1:] for value in page.values("href") + page.values("xlink:href")
             if value.startswith("#")}  # fmt: skip
    assert named <= set(ids)
    # Texts of the samples hold </script>: they end no script and start none.
    assert len(page.scripts) == 2
    assert len(json.loads(page.scripts[0])["episodes"]) == 6
    for expected in (
        "confidence", "20.0% to 40.0%", "one", "two", "python -m reoac_jax.train", "exp_name",
        "Where the runs differ", "Line 4 of metrics.jsonl was cut off",
    ):  # fmt: skip
        assert expected in page.text


def test_a_run_that_has_only_begun(tmp_path, capsys):
    write_run(tmp_path / "run", iterations=0)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert report(tmp_path / "run") == 0
    assert "no metrics yet" in capsys.readouterr().out
    text = Page((tmp_path / "run" / "report" / "index.html").read_text()).text
    for expected in ("no metrics yet", "No episode has been sampled yet", "No evaluation was found",
                     "No line of metrics.jsonl holds reward"):  # fmt: skip
        assert expected in text
    assert not (tmp_path / "run" / "report" / "pictures").exists()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "RUN_DIR"),
        (["nowhere"], "nowhere"),
        (["run", "--eval", "nothing.json"], "nothing.json"),
        (["run", "--eval", "run/config.json"], "config.json"),
        (["run", "--output", "run/config.json"], "a file"),
        (["run", "--output", "run/config.json/x"], "written"),
        (["run", "--episodes", "0"], "--episodes"),
        (["run", "--config.seed=1"], "--config.seed"),
        (["run", "--evil", "x"], "--evil"),
    ],
)
def test_bad_input_gets_one_line(argv, expected, tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "run", iterations=0)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert report(*argv) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and expected in error
    assert sorted(tmp_path.rglob("*")) == before
