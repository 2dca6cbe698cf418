import torch
from torch import nn
from torch.nn.utils import parametrizations

from plumbob.design.parameter_groups import groups

RATES = {"lr": 0.01, "weight_decay": 0.1}


class Scaled(nn.Module):
    """Root mean square scaling under a name that says nothing."""

    def __init__(self, n):
        super().__init__()
        self.w = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return self.w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Odd(nn.Module):
    """Names that mislead: only the graph tells what is what."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.zeros(5, 8))
        self.bias_maker = nn.Linear(8, 8)
        self.heads = nn.Parameter(torch.zeros(2, 4))
        self.norm_like = nn.Parameter(torch.randn(8, 8))
        self.foo = Scaled(8)
        self.gamma = nn.Parameter(torch.full((8, 1), 0.1))
        self.table = nn.Parameter(torch.zeros(9, 1))
        self.register_buffer("index", torch.arange(25).reshape(5, 5) % 9)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        q = self.bias_maker(x)
        k = (x @ self.norm_like).unflatten(-1, (2, 4)) + self.heads
        scores = q @ k.flatten(-2).mT + self.table[self.index].squeeze(-1)
        x = x + scores.softmax(-1) @ self.foo(x) * self.gamma.squeeze(1)
        return x.mean(1)


ODD_INPUT = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))


def roles(split):
    return {row.parameter: row.role for row in split.rows()}


def test_roles_are_places_in_the_graph_not_names():
    split = groups(Odd(), **RATES, data=ODD_INPUT)
    assert roles(split) == {
        "token": "offset",
        "places": "offset",
        "heads": "bias",
        "norm_like": "matrix",
        "gamma": "scale",
        "table": "bias",
        "bias_maker.weight": "matrix",
        "bias_maker.bias": "bias",
        "foo.w": "norm",
    }
    decayed = {row.parameter for row in split.rows() if row.weight_decay}
    assert decayed == {"norm_like", "bias_maker.weight"}


def test_renaming_changes_nothing():
    class Net(nn.Module):
        def __init__(self, first, second):
            super().__init__()
            self.names = first, second
            setattr(self, first, nn.Linear(3, 3))
            setattr(self, second, nn.LayerNorm(3))

        def forward(self, x):
            first, second = (getattr(self, name) for name in self.names)
            return second(first(x))

    for data in (None, torch.randn(2, 3)):
        plain = groups(Net("a", "b"), **RATES, data=data)
        misleading = groups(Net("layernorm_bias", "dense"), **RATES, data=data)
        assert [r.role for r in plain.rows()] == [r.role for r in misleading.rows()]


def test_without_data_shapes_judge_and_say_so():
    split = groups(Odd(), **RATES)
    said = {row.parameter: (row.role, row.why) for row in split.rows()}
    assert said["heads"] == ("matrix", "two or more axes, by its shape alone")
    assert said["token"] == ("offset", "rows for the whole batch, by its shape alone")
    assert said["gamma"] == said["table"] == ("scale", "a vector, by its shape alone")
    assert said["foo.w"][0] == "scale"
    assert said["bias_maker.weight"][1].endswith("by its module")


def test_what_is_computed_into_a_weight():
    net = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Linear(4, 3)),
        parametrizations.weight_norm(nn.Conv1d(3, 3, 2), dim=2),
    )

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net[3](self.net[:3](x).mT)

    split = groups(Net(), **RATES, data=torch.ones(2, 5, 4))
    short = {n.removeprefix("net.").replace("parametrizations.weight.", ""): role
             for n, role in roles(split).items()}  # fmt: skip
    assert short == {
        "0.bias": "bias",
        "0.original0": "scale",
        "0.original1": "matrix",
        "2.bias": "bias",
        "2.original": "matrix",
        "3.bias": "bias",
        "3.original0": "scale",
        "3.original1": "matrix",
    }
