import os

import pytest

from plumbob.types import Severity
from sinking import feed, finding, log

wandb = pytest.importorskip("wandb")

from plumbob.sinks.wandb import WandB  # ruff: ignore[module-import-not-at-top-of-file]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    folder = str(tmp_path_factory.mktemp("wandb"))
    with wandb.init(dir=folder, settings=wandb.Settings(console="off")) as run:
        yield run


class Kept:
    """A run that keeps what it is given."""

    def __init__(self):
        self.rows, self.alerts, self.summary, self.config = [], [], {}, {}
        self.metrics = []

    def define_metric(self, name, step_metric=None):
        self.metrics.append((name, step_metric))

    def log(self, row, *, commit):
        self.rows.append((row, commit))

    def alert(self, title, text, level):
        self.alerts.append(title)


def test_an_offline_run_takes_it_all(run):
    feed(WandB(run, commit=True))
    assert run.summary["plumbob/loss"] == pytest.approx(0.5)
    assert run.summary["plumbob/step"] == 100
    assert run.summary["plumbob/findings"].startswith("- error PB701")
    assert run.config["plumbob"]["model"] == "Net"


def test_rows_of_ours_do_not_cost_those_of_the_user(run):
    sink, before = WandB(run), run.step
    sink.write(log(0))
    sink.write(log(1))
    assert run.step == before
    run.log({"mine": 3}, step=before)
    run.log({}, commit=True)
    assert run.summary["mine"] == 3
    assert run.step == before + 1


def test_rows_hold_numbers_and_counted_histograms():
    kept = Kept()
    feed(WandB(kept))
    row, commit = kept.rows[0]
    drawn = row["plumbob/effective bias/layer39"]
    assert not commit
    assert row["plumbob/step"] == 0
    assert sum(drawn.histogram) == 8
    assert drawn.bins[0] == 39
    assert len(row) < 85
    assert kept.metrics == [("plumbob/step", None), ("plumbob/*", "plumbob/step")]


def test_each_error_alerts_once_and_a_warning_never():
    kept = Kept()
    sink = WandB(kept)
    feed(sink)
    sink.tell(70, (finding(severity=Severity.WARNING, code="PB704"),))
    assert kept.alerts == ["PB701 loss-non-finite at step 50"]
    assert "PB704" in kept.summary["plumbob/findings"]
