"""What follows a map, from the graph or from nn.Sequential."""

import pytest
import torch
from torch import nn

from nets import seeded
from plumbob.survey.batches import batches
from plumbob.survey.following import look


def seen(model, data=None):
    feed = [] if data is None else list(batches(model, data))
    facts = look(model, feed)
    return facts, {site.name: site for site in facts.sites}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.SiLU(), "silu"),
        (nn.LogSigmoid(), "log_sigmoid"),
        (nn.Hardswish(), "hardswish"),
        (nn.PReLU(), "prelu"),
        (nn.Softmax(-1), "softmax"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_module_and_the_graph_name_an_activation_alike(module, name):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1), module, nn.Linear(4, 2))
    x = torch.randn(4, 4, generator=seeded())
    for data in (None, x):
        facts, sites = seen(model, data)
        assert sites["0"].activation == name
        assert facts.known == {"0", "3"}
        assert [sites[n].is_output for n in "03"] == [False, True]


def test_what_modules_do_not_make_certain_is_not_known():
    class Own(nn.Module):
        def forward(self, x):
            return x.relu()

    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 4)),
        nn.Linear(4, 4),
        Own(),
        nn.Linear(4, 4),
        nn.Linear(4, 2),
    )
    facts, sites = seen(model)
    assert facts.known == {"0.0", "0.1", "3", "4"}
    assert (sites["0.0"].norm, sites["0.0"].activation) == ("norm", "tanh")
    assert sites["3"].activation is None
    assert "no data given" in facts.note


def test_slopes_are_read_behind_a_norm_and_from_a_prelu():
    model = nn.Sequential(
        nn.Linear(4, 6),
        nn.BatchNorm1d(6),
        nn.LeakyReLU(0.4),
        nn.Linear(6, 6),
        nn.PReLU(6, init=0.3),
        nn.Linear(6, 2),
    )
    for data in (None, torch.randn(4, 4, generator=seeded())):
        facts, _ = seen(model, data)
        assert facts.slopes["0.weight"] == pytest.approx(0.4)
        assert facts.slopes["3.weight"] == pytest.approx(0.3)


def test_a_model_that_cannot_be_run_is_read_by_its_modules():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x):
            raise RuntimeError("no")

    facts, sites = seen(Broken(), torch.randn(2, 4))
    assert list(sites) == ["a"]
    assert "cannot be traced" in facts.note
