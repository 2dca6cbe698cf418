"""`plumbob trial` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from plumbob import cli

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
