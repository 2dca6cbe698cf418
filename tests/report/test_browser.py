"""Pages in a real browser: no error, no request, readable in light and dark."""

import shutil
import subprocess
from functools import cache
from importlib.resources import files

import numpy as np
import pytest

from made_runs import BROKEN, NAMES, NOTE, finding, history, run, sites, window
from plumbob.report import html, pair_html, run_html
from plumbob.report.report import Report
from plumbob.types import Census, Needs, Reading, Survey

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def checked(names):
    """Return a report as `check` gives it, with every section."""
    draw = np.random.default_rng(0)
    census = Census(
        shape=(8, 16), dtype="float32", count=128, var=0.01, low=-0.4, high=0.5
    )
    survey = Survey(
        sites=sites(names),
        known=Needs.WEIGHTS | Needs.ACTIVATIONS,
        readings={n: Reading(samples=256, z=window(draw, 0, 0).z) for n in names},
        tensors={f"{n}.{part}": census for n in names for part in ("weight", "bias")},
        about={"model": "Net", "parameters": 204, "torch": "2.13.0", "seed": "7"},
    )
    return Report(
        findings=(BROKEN, finding(units=(1, 2, 5), steps=("one", "two")), NOTE),
        survey=survey,
        not_judged={"PB403": "needs gradients (no loss given)"},
        crashed={"PB999": "KeyError: 'x'"},
    )


@cache
def page(name):
    """Return one of the pages that are looked at."""
    if name == "check":
        return html.render(checked(NAMES))
    if name == "empty check":
        return html.render(
            Report(findings=(), survey=Survey(sites=(), known=Needs.WEIGHTS))
        )
    if name == "run":
        return run_html.render(run())
    if name == "pair":
        milder = run(name="b", findings=(NOTE,), changes=())
        return pair_html.render(run(), milder)
    names = [f"model.layers.{i}.mlp.projection" for i in range(200)]
    return run_html.render(
        run(names, history=history(names, taken=10_000, logs=10_000, spans=32))
    )


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page from a file; what it says and asks for is kept with it."""
    contexts = []

    def visit(name, scheme="light", width=1280, **options):
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        tab = context.new_page()
        tab.said, tab.asked = [], []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda request: tab.asked.append(request.url))
        path = tmp_path / f"{name}.html"
        path.write_text(page(name), encoding="utf-8")
        tab.goto(path.as_uri())
        return tab

    yield visit
    for context in contexts:
        context.close()


PAGES = ("check", "empty check", "run", "pair", "big")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_error_no_request_and_no_serious_fault(opened, name, scheme):
    tab = opened(name, scheme)
    tab.evaluate("for (const d of document.querySelectorAll('td details')) d.open = 1")
    source = files("axe_playwright_python") / "axe.min.js"
    tab.evaluate(source.read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document)")
    bad = {"serious", "critical"}
    assert not [
        (fault["id"], fault["nodes"][0]["html"][:200])
        for fault in found["violations"]
        if fault["impact"] in bad
    ]
    assert not tab.said
    assert len(tab.asked) == 1  # the page itself
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(251, 250, 247)", "dark": "rgb(20, 23, 26)"}[scheme]


@pytest.mark.parametrize("name", ["check", "run", "pair"])
def test_a_narrow_page_does_not_scroll_sideways(opened, name):
    tab = opened(name, width=400)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("name", ["run", "pair"])
def test_a_page_is_read_without_scripts(opened, name):
    tab = opened(name, java_script_enabled=False)
    text = tab.inner_text("body")
    assert "the step is 0.9 of the weights at the median" in text
    assert not tab.locator("input").is_visible()


def test_10000_logs_of_200_sites_open_in_two_seconds(opened):
    tab = opened("big")
    took = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < took < 2000


def test_sites_are_filtered_and_findings_sorted(opened):
    tab = opened("run")
    tab.fill("input", "FC")
    assert tab.locator(".site:visible").all_inner_texts()[0].startswith("fc1")
    assert tab.locator(".site:visible").count() == 2
    assert tab.inner_text("output") == f"2 of {len(NAMES)}"
    tab.click("th:has-text('found') button")
    assert tab.get_attribute("th:has-text('found')", "aria-sort") == "ascending"
    found = tab.locator("table.findings tbody td:nth-child(4)").all_inner_texts()
    assert found == ["20", "60", "200", "399"]
    tab.click("th:has-text('severity') button")
    first = tab.locator("table.findings tbody td:nth-child(1)").all_inner_texts()
    assert first == ["x error", "! warning", "! warning", "i info"]


def test_a_mark_in_a_picture_opens_its_finding(opened):
    tab = opened("run")
    there = tab.locator("table.findings details").first
    assert there.get_attribute("open") is None
    tab.locator("svg a[href='#f1']").first.click()
    tab.wait_for_function("document.querySelector('#f1 details').open")


def test_paper_shows_what_is_folded_and_nothing_to_type_in(opened):
    tab = opened("run")
    seen = "document.querySelector('table.findings dd').checkVisibility()"
    assert not tab.evaluate(seen)
    tab.emulate_media(media="print")
    assert tab.evaluate(seen)
    assert not tab.locator("input").is_visible()


@pytest.mark.parametrize(
    ("motion", "scrolls"), [("reduce", "auto"), ("no-preference", "smooth")]
)
def test_nothing_moves_for_those_who_do_not_want_it(opened, motion, scrolls):
    tab = opened("run", reduced_motion=motion)
    style = "getComputedStyle(document.documentElement).scrollBehavior"
    assert tab.evaluate(style) == scrolls


def test_what_pictures_are_called(opened):
    tree = opened("run").locator("main").aria_snapshot()
    assert "Losses and findings of 2026-11-21-a over its steps" in tree
    assert "Weights and biases of every site over the steps of the run" in tree


def test_a_page_opens_without_playwright(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(run_html.render(run(findings=(finding(),))), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "5 of 8 units of fc2 leave" in done.stdout
    assert 'class="sort"' in done.stdout  # the script ran to its end
