"""Every format on one made-up report, against files kept in golden/."""

import importlib
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import plumbob
from nets import output_bias_prior
from plumbob.report import html, text
from plumbob.report.report import Report
from plumbob.report.table import rows
from plumbob.types import (
    Census,
    Finding,
    Moments,
    Needs,
    Reading,
    Remedy,
    Safety,
    Severity,
    Site,
    Survey,
)

GOLDEN = Path(__file__).parent / "golden"
FORMS = {
    "text": "txt",
    "concise": "txt",
    "json": "json",
    "markdown": "md",
    "github": "txt",
}


def finding(**changes):
    facts = {
        "code": "PB201",
        "name": "dead-relu",
        "site": "fc1",
        "severity": Severity.WARNING,
        "message": "12 of 64 units never fired on 512 samples",
        "cause": "their biases lie 7.3 spreads of z below zero, while the means of "
        "their inputs add next to nothing",
        "evidence": {"dead": 12, "units": 64, "samples": 512, "offset": -7.3125},
        "remedy": Remedy(
            advice="Set the biases of these units to 0.",
            safety=Safety.CHANGES_TRAINING,
            act="set-bias",
            arguments={"parameter": "fc1.bias", "units": (1, 2), "values": (0.0, 0.5)},
        ),
        "units": (1, 2, 3, 9, *range(20, 28)),
    }
    return Finding(**facts | changes)


def moments(seed, units=4):
    draw = np.random.default_rng(seed)
    return Moments(
        count=np.full(units, 512),
        mean=draw.normal(size=units).round(3),
        m2=draw.uniform(100, 600, units).round(1),
        low=np.full(units, -3.0),
        high=np.full(units, 3.0),
        positive=draw.integers(0, 512, units),
        nonfinite=np.zeros(units, int),
    )


def census(seed):
    return Census(
        shape=(4, 16),
        dtype="float32",
        count=64,
        mean=0.001,
        var=0.01 * (1 + seed % 3),
        low=-0.4,
        high=0.5,
    )


def survey(count=3):
    names = ["fc1", "fc2", "head", *(f"encoder.{i}.linear" for i in range(count))][
        :count
    ]
    return Survey(
        sites=tuple(
            Site(
                name=name,
                kind="linear",
                out=4,
                fan_in=16,
                weight=f"{name}.weight",
                bias=f"{name}.bias",
                activation="relu",
            )
            for name in names
        ),
        known=Needs.WEIGHTS | Needs.ACTIVATIONS,
        readings={n: Reading(samples=512, z=moments(i)) for i, n in enumerate(names)},
        tensors={
            f"{name}.{part}": census(i)
            for i, name in enumerate(names)
            for part in ("weight", "bias")
        },
        about={"model": "<Net & co>", "torch": "2.13", "parameters": 204},
    )


REPORT = Report(
    findings=(
        finding(
            code="PB101",
            name="non-finite-weight",
            site="head.weight",
            severity=Severity.ERROR,
            message="1 NaN and 2 infinite values among 1024 in `head|x`",
            cause="the parameter was already broken when it was read",
            evidence={"nans": 1, "infs": 2, "count": 1024, "scale": float("inf")},
            remedy=Remedy(advice="Go back to the last checkpoint that is finite."),
            units=(),
            consequences=(
                finding(
                    code="PB403",
                    name="non-finite-gradient",
                    site="fc2",
                    severity=Severity.INFO,
                ),
            ),
        ),
        finding(),
        finding(
            code="PB301",
            name="bias-before-batch-norm",
            site="fc2",
            severity=Severity.INFO,
            steps=("a shift of fc2.bias is constant per channel", "bn removes it"),
            remedy=Remedy(advice="Leave the bias out.", safety=Safety.EXACT),
        ),
    ),
    survey=survey(),
    not_judged={
        "PB403": "needs gradients (no loss given)",
        "PB405": "needs gradients (no loss given)",
        "emb.weight": "int8 values are not read",
    },
    crashed={"PB999": "KeyError: 'x'"},
)
EMPTY = Report(findings=(), survey=Survey(sites=(), known=Needs.WEIGHTS))


@pytest.mark.parametrize("form", FORMS)
def test_golden(form):
    told = importlib.import_module(f"plumbob.report.{form}").render(REPORT) + "\n"
    path = GOLDEN / f"{form}.{FORMS[form]}"
    if os.environ.get("PLUMBOB_WRITE_GOLDEN"):
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8")


def told(form, *findings):
    report = Report(findings=findings, survey=survey())
    return importlib.import_module(f"plumbob.report.{form}").render(report)


@pytest.mark.parametrize("form", ["text", "concise", "markdown", "html"])
def test_what_one_root_explains_is_told_once_a_code(form):
    below = [finding(site=f"deep{i}", message=f"says {i}", units=()) for i in range(14)]
    other = finding(code="PB205", site="deep3", message="says too")
    root = finding(code="PB104", site="first", consequences=(*below, other))
    text = " ".join(told(form, root).split())
    assert "says 0" in text
    assert "says 1" not in text
    assert f"also at: {', '.join(f'deep{i}' for i in range(1, 9))} and 5 more" in text
    assert text.count("PB205") == 1
    assert len(json.loads(told("json", root))["findings"][0]["consequences"]) == 15


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_findings_that_differ_by_numbers_are_told_once(form):
    alike = [
        finding(
            site=f"layers.{i}.norm",
            message=f"{i + 2} units, -1.{i}e-0{i}, are carried by layers.{i}.fc",
            consequences=(finding(code="PB501", site=f"layers.{i}.fc"),),
        )
        for i in range(3)
    ]
    text = " ".join(told(form, *alike, finding(cause="another")).split())
    assert "2 units" in text
    assert "3 units" not in text
    label = "lso at, with numbers of their own"
    assert re.search(label + r"\W.*layers\.1\.norm, layers\.2\.norm", text)
    assert text.count("PB501") == 1
    assert "another" in text
    assert len(json.loads(told("json", *alike))["findings"]) == 3


def test_the_same_words_are_no_numbers_of_their_own():
    same = [finding(site=f"fc{i}") for i in range(3)]
    assert "also at: fc1, fc2\n" in told("text", *same)


@pytest.mark.parametrize("form", [*FORMS, "html"])
def test_an_empty_report(form):
    assert importlib.import_module(f"plumbob.report.{form}").render(EMPTY)


def test_a_report_is_its_text():
    assert str(REPORT) == text.render(REPORT)
    assert str(EMPTY) == "Found no problems."


def test_text_keeps_to_its_width():
    lines = text.render(REPORT, width=60).splitlines()
    assert max(map(len, lines)) <= 60
    assert not [line for line in lines if line != line.rstrip()]


def test_colour_is_never_alone():
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=True, color_system="standard", no_color=False
    )
    console.print(text.drawing(REPORT, 80), soft_wrap=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert plain.rstrip("\n") == text.render(REPORT)
    assert "\x1b[1;31mx error" in stream.getvalue()


def test_json_holds_plain_numbers():
    tree = json.loads(importlib.import_module("plumbob.report.json").render(REPORT))
    assert tree["version"] == 1
    assert tree["counts"] == {"error": 1, "warning": 1, "info": 1}
    first, second, third = tree["findings"]
    assert first["evidence"]["scale"] is None
    assert first["consequences"][0]["code"] == "PB403"
    assert second["evidence"]["offset"] == pytest.approx(-7.3125, rel=1e-15)
    assert third["remedy"]["safety"] == "exact"
    assert tree["sites"] == rows(REPORT.survey)
    site = tree["sites"][0]
    z = REPORT.survey.readings["fc1"].z
    assert site["beta_median"] == np.median(z.mean)
    assert site["sd_high"] == z.sd.max()
    assert site["firing_low"] == (z.positive / 512).min()
    assert site["weight_sd"] == pytest.approx(0.1)


class Page(HTMLParser):
    """Tags and links of a page; raises where an end tag does not fit."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.ids = [], [], [], set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.tags.append(tag)
        self.links += [facts[k] for k in ("href", "src") if k in facts]
        self.ids |= {facts["id"]} if "id" in facts else set()
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_is_well_formed():
    told = html.render(REPORT)
    page = Page(told)
    assert {"script", "img", "link", "iframe"}.isdisjoint(page.tags)
    assert page.links
    assert all(link.removeprefix("#") in page.ids for link in page.links)
    assert "<Net" not in told
    assert "&lt;Net &amp; co&gt;" in told
    assert {"title", "main", "h1", "caption"} <= set(page.tags)


def test_a_page_of_500_sites_stays_small():
    big = Report(findings=REPORT.findings, survey=survey(500))
    assert len(html.render(big).encode()) < 300_000


def test_json_holds_the_shift_that_is_advised():
    report = plumbob.check(**output_bias_prior(leans=True))
    told = json.loads(importlib.import_module("plumbob.report.json").render(report))
    assert told["output"]["shift"] == pytest.approx(report.survey.output.shift.tolist())
    assert told["output"]["shifted"] < told["output"]["loss"]
