"""The page in a real browser: headless Chromium, driven as a reader would."""

import contextlib
import dataclasses
import datetime
import json
import shutil
import time

import pytest
from support.simulated_run import OPERATORS, episode, write_evaluation, write_run

from reoac_jax.report.__main__ import main
from reoac_jax.report.page import page as build_page
from reoac_jax.report.runs import read_runs
from reoac_jax.system.errors import run_command

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs the Python package playwright, which drives the browser"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="needs Chromium; on Debian: apt-get install chromium"
    ),
]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    # Closed with the module: while it is open, this thread has a running event loop.
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """index.html of a run, and the simulated episodes, in the order of the viewer."""
    folder = tmp_path_factory.mktemp("browser")
    episodes = write_run(folder / "run", iterations=8)
    write_evaluation(folder / "run" / "evaluation.json", "actor", 0.4)
    assert run_command(main, [str(folder / "run")]) == 0
    # Alone, as it may have been sent to a colleague.
    alone = folder / "alone" / "index.html"
    alone.parent.mkdir()
    shutil.move(folder / "run" / "report" / "index.html", alone)
    return alone, episodes


@contextlib.contextmanager
def opened(browser, path, viewport=WIDE, scheme="light"):
    """The page; at the end nothing may have been complained of or fetched."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    tab = context.new_page()
    complaints, fetched = [], []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: fetched.append(request.url))
    tab.goto(path.as_uri())
    yield tab
    assert complaints == []
    assert [url for url in fetched if not url.startswith("data:")] == [path.as_uri()]
    context.close()


def chosen(tab, place):
    tab.wait_for_selector(f"#viewer[data-episode='{place}']")


def assert_shows(tab, simulated, step):
    """That the viewer shows the row after `step` steps, with states and numbers."""
    tokens = tab.evaluate(
        """() => [...document.querySelectorAll('#trace-tokens .token')].map(
            (n) => [n.textContent, n.className, n.getAttribute('aria-label')])"""
    )
    rows, states = simulated.rows, simulated.states[step]
    for i, (text, classes, label) in enumerate(tokens):
        assert classes == f"token {states[i]}"
        told = rows[step - 1][i] if states[i] == "repaired" else rows[step][i]
        assert text == (" " if told is None else told.replace("\n", "⏎\n"))
        percent = simulated.confidences[step][i]
        assert ("confidence" in label) == (percent is not None)
        assert percent is None or f"confidence {percent} %" in label
    assert len(tokens) == len(states)
    if step == 0:
        assert tab.inner_text("#trace-operator") == "Start: all masked"
        return
    record = simulated.record["steps"][step - 1]
    assert tab.inner_text("#trace-operator") == f"Step {step}: {record['operator']}"
    cells = tab.locator("#trace-values tbody tr").all_inner_texts()
    for cell, name, q in zip(cells, OPERATORS, record["q"], strict=True):
        assert name in cell and f"{q:.3f}" in cell
    assert tab.locator("#trace-values tr.acted").inner_text().startswith(record["operator"])
    candidates = record.get("candidates", [])
    assert tab.locator("#trace-candidates").is_visible() == bool(candidates)
    if candidates:
        lines = tab.locator("#trace-candidates tbody tr").all_inner_texts()
        for line, candidate in zip(lines, candidates, strict=True):
            assert candidate["operator"] in line and f"{candidate['value']:.3f}" in line
        won = tab.locator("#trace-candidates tr.acted").inner_text()
        assert won.startswith(record["executed"])


def test_stepping_shows_every_state_of_every_step(browser, written):
    path, episodes = written
    with opened(browser, path) as tab:
        chosen(tab, 7)
        last = len(episodes[7].rows) - 1
        assert_shows(tab, episodes[7], last)
        tab.focus("#trace-step")
        for step in range(last - 1, -1, -1):
            tab.keyboard.press("ArrowLeft")
            assert_shows(tab, episodes[7], step)
        tab.keyboard.press("ArrowLeft")
        assert_shows(tab, episodes[7], 0)
        tab.keyboard.press("End")
        tab.keyboard.press("ArrowRight")
        assert_shows(tab, episodes[7], last)
        for place in (6, 5, 4):
            tab.keyboard.press("ArrowUp")
            chosen(tab, place)
            for step in (0, 2, last):
                tab.locator("#trace-step").fill(str(step))
                assert_shows(tab, episodes[place], step)
        tab.click("#trace-timeline button:nth-child(3)")
        assert_shows(tab, episodes[4], 3)
        states = {state for e in episodes[4:] for row in e.states for state in row}
        assert states == {"masked", "revealed", "repaired", "kept"}


def test_play_runs_to_the_end_and_can_be_paused(browser, written):
    path, episodes = written
    with opened(browser, path) as tab:
        chosen(tab, 7)
        count = len(episodes[7].record["steps"])
        tab.clock.install(time=datetime.datetime(2026, 1, 1))
        tab.clock.pause_at(datetime.datetime(2026, 1, 2))
        tab.click("#trace-play")
        assert_shows(tab, episodes[7], 0)
        tab.clock.run_for(1100)
        assert_shows(tab, episodes[7], 2)
        tab.focus("#trace-step")
        tab.keyboard.press("Space")
        tab.clock.run_for(5000)
        assert_shows(tab, episodes[7], 2)
        tab.keyboard.press("Space")
        tab.clock.run_for(500 * count)
        assert_shows(tab, episodes[7], count)
        assert tab.inner_text("#trace-play") == "▶ play"


def test_filters_choose_episodes(browser, written):
    path, episodes = written
    kept = {
        "solved": [i for i, e in enumerate(episodes) if e.record["correct"]],
        "unsolved": [i for i, e in enumerate(episodes) if not e.record["correct"]],
        "branched": [i for i, e in enumerate(episodes)
                     if any("candidates" in step for step in e.record["steps"])],
        "repaired": [i for i, e in enumerate(episodes)
                     if any(step["repaired"] for step in e.record["steps"])],
    }  # fmt: skip
    assert kept["solved"] and kept["unsolved"]
    with opened(browser, path) as tab:
        for name, places in kept.items():
            tab.select_option("#trace-filter", name)
            options = tab.locator("#trace-episode option")
            assert [int(o.get_attribute("value")) for o in options.all()] == places
            chosen(tab, places[-1])


def test_pointing_tells_the_confidence_and_tints_the_prompt(browser, written):
    path, episodes = written
    with opened(browser, path) as tab:
        chosen(tab, 7)
        record, last = episodes[7].record, len(episodes[7].rows) - 1
        assert tab.locator("#trace-tip").is_hidden()
        tab.locator("#trace-tokens .token").nth(4).hover()
        percent = episodes[7].confidences[last][4]
        assert f"confidence {percent} %" in tab.inner_text("#trace-tip")
        shades = tab.evaluate(
            """() => [...document.querySelectorAll('#trace-prompt .token')].map(
                (n) => Number(n.style.getPropertyValue('--related')))"""
        )
        column = [row[4] for row in record["relation"]]
        assert shades == pytest.approx([100 * x / max(column) for x in column], abs=0.51)
        tab.mouse.move(0, 0)
        assert tab.locator("#trace-tip").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_it_fits_the_window_in_light_and_dark(browser, written, viewport, scheme):
    with opened(browser, written[0], viewport, scheme) as tab:
        chosen(tab, 7)
        assert tab.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        brightness = "(e) => getComputedStyle(e).backgroundColor.match(/\\d+/g).map(Number)[0]"
        assert (tab.locator("body").evaluate(brightness) > 128) == (scheme == "light")
        ink = tab.locator("#losses svg text").first.evaluate("(e) => getComputedStyle(e).fill")
        assert (int(ink.split("(")[1].split(",")[0]) < 128) == (scheme == "light")
        tab.click("#theme")
        assert (tab.locator("body").evaluate(brightness) > 128) == (scheme == "dark")


def test_500_episodes_of_64_steps_stay_usable(browser, tmp_path):
    write_run(tmp_path / "run", iterations=0)
    long = [episode(seed, steps=64, length=256) for seed in range(4)]
    for number, simulated in enumerate(long):
        name = f"{number:06d}_000.json"
        (tmp_path / "run" / "samples" / name).write_text(json.dumps(simulated.record))
    (run,) = read_runs([str(tmp_path / "run")], 500)
    many = [dataclasses.replace(e, number=i) for i in range(125) for e in run.episodes]
    path = tmp_path / "index.html"
    path.write_text(build_page([dataclasses.replace(run, episodes=many)], [], {}))
    assert path.stat().st_size < 40e6
    with opened(browser, path) as tab:
        chosen(tab, 499)
        began = time.monotonic()
        for place in range(498, 488, -1):
            tab.click("#trace-previous")
            chosen(tab, place)
        tab.focus("#trace-step")
        for _ in range(64):
            tab.keyboard.press("ArrowLeft")
        assert_shows(tab, long[489 % 4], 0)
        # Some seconds on an idle machine; tests may run on one that is very busy.
        assert time.monotonic() - began < 60
