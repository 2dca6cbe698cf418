"""Pages of runs: sizes, hostile names, broken numbers, none, one and many steps."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import made_runs
from made_runs import BROKEN, NAMES, NOTE, course, finding, history, run, sites, window
from plumbob.report import pair_html, run_html, run_json, run_text
from plumbob.report.episodes import entries, episodes
from plumbob.report.over_time import rows
from plumbob.types import Change, History, Losses, Run, Severity

EVIL = "<script>alert('x')</script>&\"]]><!--"


class Page(HTMLParser):
    """The headings, ids and links of a page; raises where a tag does not fit."""

    void = frozenset({"meta", "br", "input", "link"})

    def __init__(self, page):
        super().__init__()
        self.open, self.levels, self.ids, self.links = [], [], [], []
        self.requests, self.data, self.scripts = [], "", 0
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in self.void:
            self.open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.requests += [v for k, v in attrs if k in {"src", "srcset", "action"}]
        self.scripts += tag == "script"

    def handle_startendtag(self, tag, attrs):
        assert self.open

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data = self.data or data


def sound(page):
    """Check what must hold of every page; return its data."""
    read = Page(page)
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links} <= set(read.ids)
    assert not read.requests
    assert read.scripts == 2
    assert read.levels[0] == 1
    steps = np.diff(read.levels)
    assert (steps <= 1).all()
    assert read.levels.count(1) == 1
    assert not re.search(r"(?<![a-z])(nan|inf)(?![a-z])", shapes(page))
    return json.loads(read.data)


def shapes(page):
    """Return all numbers that pictures are drawn with."""
    return " ".join(re.findall(r'\b(?:d|x|y|cx|cy|viewBox)="([^"]*)"', page)).lower()


def test_a_run_is_told_whole():
    page = run_html.render(run())
    data = sound(page)
    assert data["findings"][0]["code"] == "PB704"
    assert data["findings"][0]["spells"] == [{"found": 200, "gone": None}]
    assert data["findings"][3]["spells"] == [{"found": 20, "gone": 90}]
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Found 1 error, 1 warning, 1 note; 1 finding went on the way." in text
    assert "The run ended." in text
    for word in (
        "PB710",
        "needs validation losses",
        "the sink x raised: full",
        "plumbob run train.py --lr 0.1",
        "2026-11-21 ",
        "torch 2.13.0",
        "PB711 plateau",
        "offset \N{MINUS SIGN}6.312",
        "best constant output",
    ):
        assert word in text, word


def test_hostile_names_are_words():
    names = [EVIL, f"{EVIL}2"]
    bad = finding(
        **dict.fromkeys(("code", "name", "site", "message", "cause"), EVIL),
        evidence={EVIL: 1},
    )
    made = run(
        names,
        name=EVIL,
        about={EVIL: EVIL, "command": EVIL, "seed": EVIL},
        findings=(bad,),
        changes=(Change(step=3, kind="new", finding=bad),),
        not_judged={EVIL: EVIL},
        crashed={EVIL: EVIL},
        history=history(
            names, losses={EVIL: Losses(steps=np.arange(3), values=np.ones(3))}
        ),
    )
    for page in (run_html.render(made), pair_html.render(made, run())):
        assert "<script>alert" not in page
        assert "<!--" not in page
        data = sound(page)
        data = data[0] if isinstance(data, list) else data
        assert data["name"] == EVIL
        assert data["sites"]["name"] == names


@pytest.mark.parametrize("taken", [0, 1, 2])
@pytest.mark.parametrize("over", [True, False])
def test_hardly_any_steps(taken, over):
    made = run(history=history(NAMES, taken=taken, logs=taken, spans=1), over=over)
    sound(run_html.render(made))
    sound(pair_html.render(made, run()))
    assert run_text.render(made)
    json.loads(run_json.render(made))


def test_nothing_at_all():
    made = Run(name="", about={}, sites=(), history=History(steps=np.zeros(0, int)))
    page = run_html.render(made)
    sound(page)
    assert "Not judged yet." in page
    assert "no loss is known" in page
    assert json.loads(run_json.render(made))["findings"] == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308, 0.0, -1e-320])
def test_numbers_that_are_none(value):
    steps = np.arange(0, 400, 4)
    broken = course(np.random.default_rng(0), steps)
    facts = {n: np.full(100, value) for n in ("size", "change", "gradient", "lr")}
    wide = window(np.random.default_rng(0), 0, 9)
    z = wide.z.__class__(
        **{n: getattr(wide.z, n) for n in ("count", "low", "high", "positive")},
        mean=np.full(8, value),
        m2=np.full(8, abs(value)),
        nonfinite=np.full(8, 3),
    )
    made = run(
        history=history(
            NAMES,
            steps=steps,
            courses={
                "fc1.weight": broken,
                "fc2.weight": made_runs.replace(broken, **facts),
            },
            windows={"stem": (made_runs.replace(wide, z=z),) * 3},
            losses={"loss": Losses(steps=np.arange(9), values=np.full(9, value))},
        )
    )
    with np.errstate(all="raise", under="ignore"):
        sound(run_html.render(made))
        run_text.render(made)
    json.loads(run_json.render(made))
    assert run_text.render(run(about={"started": np.inf}))


@pytest.mark.parametrize(("step", "alone"), [(0, True), (300, False)])
def test_what_was_seen_at_the_first_step_alone_is_not_where_it_ended(step, alone):
    one = window(np.random.default_rng(0), step, step)
    made = run(history=history(NAMES, windows={"fc1": (one,)}))
    table = json.loads(run_json.render(made))["sites"]
    ends = dict(zip(table["name"], table["sd"], strict=True))
    drawn = {row.sites[0].name: row for row in rows(made)}
    assert (ends["fc1"] is None, drawn["fc1"].implied) == (alone, alone)
    assert json.loads(run_json.render(run(history=none_measured(one))))


def none_measured(one):
    return History(steps=np.array([], int), courses={}, windows={"fc1": (one,)})


def test_where_a_loss_breaks_is_said():
    values = np.where(np.arange(400) < 250, 1.0, np.nan)
    losses = {"loss": Losses(steps=np.arange(400), values=values)}
    page = run_html.render(run(history=history(NAMES, losses=losses)))
    assert "x loss not finite from step 250" in page


def test_two_losses_that_break_are_told_one_below_the_other():
    steps = np.arange(400)
    a, b = (np.where(steps < at, 1.0, np.nan) for at in (250, 260))
    page = run_html.render(
        run(
            history=history(
                NAMES,
                losses={"loss": Losses(steps=steps, values=a)},
                held=Losses(steps=steps, values=b),
            )
        )
    )
    one, two = re.findall(r'y="([\d.]+)">x (?:loss|validation) not finite', page)
    assert float(two) - float(one) >= 11  # the size of the letters


def test_curves_are_shown_of_a_site_whose_last_units_are_not_finite():
    steps = np.arange(0, 400, 4)
    broken = course(np.random.default_rng(0), steps)
    broken = made_runs.replace(broken, change=np.where(steps < 300, 0.1, np.nan))
    courses = {"fc1.weight": broken}
    made = run(history=history(NAMES, steps=steps, courses=courses, windows={}))
    page = run_html.render(made)
    row = page[page.index("<summary><code>fc1</code>") :]
    assert row.index("<svg") < row.index("</details>")


def test_500_tensors_take_less_than_300_kb():
    names = [f"model.layers.{i}.mlp.projection" for i in range(250)]
    made = run(names, history=history(names, taken=2000, logs=500, spans=32))
    page = run_html.render(made)
    assert len(sound(page)["sites"]["name"]) == 250
    assert len(page.encode()) < 300_000
    assert page.count('<details class="site">') == 250


def test_500_sites_of_one_tensor_take_less_than_300_kb():
    names = [f"model.decoder.layers.{i}.attention.q_proj" for i in range(500)]
    made = run(
        names,
        sites=tuple(made_runs.replace(site, bias=None) for site in sites(names)),
        history=history(names, taken=2000, logs=50, spans=20, parts=("weight",)),
    )
    assert len(run_html.render(made).encode()) < 300_000


def test_10000_logs_of_200_sites_take_less_than_2_mb():
    names = [f"model.layers.{i}.mlp.projection" for i in range(200)]
    made = run(names, history=history(names, taken=10_000, logs=10_000, spans=32))
    page = run_html.render(made)
    sound(page)
    assert page.count(" over the steps</title>") == 200  # the curves of each
    assert len(page.encode()) < 500_000


def test_of_very_many_sites_those_with_findings_are_kept():
    names = [f"layer{i}" for i in range(420)]
    made = run(
        names,
        history=history(names, taken=50, logs=10, spans=2),
        findings=(finding(site="layer419"),),
        changes=(),
    )
    page = run_html.render(made)
    assert page.count('<details class="site">') == 300
    assert "layer419 over the steps" in page
    assert "120 more sites are left out" in page


def test_a_finding_comes_goes_and_comes_again():
    again = (
        Change(step=5, kind="new", finding=NOTE),
        Change(step=9, kind="worse", finding=NOTE),
        Change(step=20, kind="gone", finding=NOTE),
        Change(step=40, kind="new", finding=NOTE),
    )
    (one,) = episodes(run(changes=again, findings=(NOTE,)))
    assert one.spells == ((5, 20), (40, None))
    assert "steps 5 to 20, from step 40" in run_text.render(
        run(changes=again, findings=(NOTE,))
    )


def test_a_finding_without_a_change_was_found_when_it_was_judged_last():
    (one,) = episodes(run(changes=(), findings=(NOTE,), judged=(0, 80)))
    assert one.spells == ((80, None),)


def test_what_a_root_explains_has_not_gone():
    inner = BROKEN.consequences[0]
    changes = (
        Change(step=10, kind="new", finding=inner),
        Change(step=50, kind="gone", finding=inner),
        Change(step=50, kind="new", finding=BROKEN),
    )
    (one,) = episodes(run(changes=changes, findings=(BROKEN,)))
    assert one.finding is BROKEN


def test_findings_that_differ_by_numbers_are_told_once():
    many = tuple(finding(site=f"fc{i}", message=f"{i} units lean") for i in range(20))
    made = run(changes=(), findings=many)
    (entry,) = entries(made)
    assert len(entry.others) == 19
    later = Change(step=50, kind="new", finding=many[0])
    sooner = Change(step=10, kind="new", finding=many[1])
    (entry,) = entries(run(changes=(sooner, later), findings=many[:2]))
    assert (entry.first.found, entry.found) == (50, 10)
    page = run_html.render(made)
    sound(page)
    assert "(model)" not in page
    assert "and 19 more" in page


@pytest.mark.parametrize(
    ("over", "died", "says"),
    [
        (True, False, "ended"),
        (False, True, "died: the last step heard of is 399"),
        (False, False, "goes on: step 399"),
        (False, None, "has not ended: whether it goes on is not known here; step 399"),
    ],
)
def test_how_a_run_stands(over, died, says):
    made = run(over=over, died=died)
    assert says in run_html.render(made)
    assert says in " ".join(run_text.render(made).split())
    assert json.loads(run_json.render(made))["died"] is died


def test_two_runs_say_what_differs():
    milder = run(
        name="2026-11-21-b",
        about={"model": "Net", "seed": "7", "command": "train --lr 0.01"},
        history=history(NAMES, taken=300),
        findings=(NOTE,),
        changes=(Change(step=290, kind="new", finding=NOTE),),
    )
    page = pair_html.render(run(), milder)
    first, second = sound(page)
    assert (first["steps"], second["steps"]) == (400, 300)
    text = pair_html.text(run(), milder)
    assert "command: plumbob run train.py --lr 0.1 | train --lr 0.01" in text
    assert "PB708 dying  fc2  ! warning: from step 60 | not found" in text
    assert "PB718 unfinished  (model)  i info: from step 399 | from step 290" in text
    assert "seed:" not in text
    rows = pair_html.both(run(), milder)
    assert [row.differs for row in rows][-1] == "in both"
    axes = re.findall(r"weights: sd\[z\], [^<]*", page)
    assert len(axes) == 2
    assert axes[0] == axes[1]


def test_a_run_beside_itself_differs_in_nothing():
    page = pair_html.render(run(), run())
    sound(page)
    assert "Nothing that is known of these runs differs." in page
    assert {row.differs for row in pair_html.both(run(), run())} == {"in both"}


def test_severity_is_a_sign_a_word_and_a_colour():
    page = run_html.render(run())
    for severity, mark in ((Severity.ERROR, "x"), (Severity.WARNING, "!")):
        word = severity.name.lower()
        assert f'<td class="severity {word}"' in page
        assert f">{mark} {word}</td>" in page
