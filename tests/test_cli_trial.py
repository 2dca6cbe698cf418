"""`plumbob trial` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from plumbob import cli
from plumbob.trials.record import Run
from plumbob.trials.table import Table

NET = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
def build():
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    net[0].bias.data.fill_(-20)
    return net
def loader():
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.abs().sum(1, keepdim=True)), 20, shuffle=True)
def optimizer(model): return torch.optim.SGD(model.parameters(), lr=0.02)
def once(): return iter([1])
"""
LINE = (
    "trial trial_net.py:build --data trial_net.py:loader --loss torch.nn:MSELoss "
    "--optimizer trial_net.py:optimizer --steps 80 --seeds 4"
)


@pytest.fixture
def plumbob(tmp_path, monkeypatch, capsys):
    def run(line):
        monkeypatch.setattr(sys, "argv", ["plumbob", *line.split()])
        status = cli.main()
        told = capsys.readouterr()
        return status, told.out, told.err

    (tmp_path / "trial_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    yield run
    sys.modules.pop("trial_net", None)


def test_a_dead_layer_is_revived_and_that_helps(plumbob):
    status, out, err = plumbob(f"{LINE} --remedies PB201")
    assert (status, err) == (0, "")
    row = next(line for line in out.splitlines() if line.startswith("PB201"))
    assert row.endswith("helps")
    status, out, _ = plumbob(f"{LINE} --remedies PB201 --format json -o table.json")
    assert (status, out) == (0, "")
    table = json.loads(Path("table.json").read_text(encoding="utf-8"))
    (found,) = table["rows"]
    assert found["verdict"] == "helps"
    assert found["loss"]["high"] < 0
    assert len(table["runs"]) == 2 * 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--loss torch.nn:MSELoss", "--loss torch.nn:MSELos"), "MSELoss"),
        ((":loader", ":laoder"), "Did you mean 'loader'?"),
        (("trial_net.py:build", "trial_net.py"), "trial_net.py"),
        (("--steps 80", "--steps 0"), "--steps"),
        ((":loader", ":once"), "valid"),
        (("--seeds 4", "--remedies PB999"), "PB999"),
        (("--seeds 4", "--metric torch.nn:Nothing"), "Nothing"),
    ],
)
def test_bad_use_is_one_sentence(plumbob, change, told):
    status, out, err = plumbob(LINE.replace(*change))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1


def test_a_folder_that_does_not_exist_is_refused_before_the_trial(plumbob, monkeypatch):
    monkeypatch.setattr("plumbob.verbs.trial.trial", lambda *a, **k: pytest.fail("ran"))
    status, out, err = plumbob(f"{LINE} -o no/table.json")
    assert (status, out) == (2, "")
    assert "expected a folder that exists" in err


def result(stopped=None):
    runs = tuple(
        Run(arm=arm, seed=seed, curve=((0, 2.0, None), (10, end + seed / 9, None)))
        for seed in range(3)
        for arm, end in (("as it is", 1.0), ("x", 0.5))
    )
    return Table(runs=runs, steps=10, every=10, alpha=0.05, stopped=stopped)


def test_a_table_that_cannot_be_written_is_printed(plumbob, monkeypatch):
    monkeypatch.setattr("plumbob.verbs.trial.trial", lambda *a, **k: result())
    Path("folder").mkdir()
    status, out, err = plumbob(f"{LINE} -o folder")
    assert status == 2
    assert "3 paired seeds" in out
    assert "cannot be written" in err


def test_an_interruption_prints_what_there_is(plumbob, monkeypatch):
    stopped = "Stopped early (interrupted): 3 of 5 seeds are complete."
    monkeypatch.setattr("plumbob.verbs.trial.trial", lambda *a, **k: result(stopped))
    status, out, err = plumbob(LINE)
    assert (status, err) == (130, "interrupted\n")
    assert "3 paired seeds" in out


def test_an_interruption_before_the_first_run_is_told(plumbob, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("plumbob.verbs.trial.trial", interrupted)
    status, out, err = plumbob(LINE)
    assert (status, out) == (130, "")
    assert err == "interrupted before any seed was compared\n"
