import pytest
import torch
from torch import nn

from plumbob.survey.stage import stages
from plumbob.types import Site, Stage


def site(name, weight, bias=None):
    return Site(name=name, kind="linear", out=1, fan_in=1, weight=weight, bias=bias)


def of(model):
    """One site per weight with the bias beside it."""
    names = dict(model.named_parameters())
    found = []
    for name, p in names.items():
        if "weight" in name and p.ndim > 1:
            bias = name.replace("weight", "bias")
            found.append(site(name, name, bias if bias in names else None))
    return found


def judged(model, optimizer=None, said=None):
    return set(stages(model, of(model), optimizer, said).values())


def reset(module, weight, *, bias=0.0):
    with torch.no_grad():
        weight(module.weight)
        if module.bias is not None and bias is not None:
            module.bias.fill_(bias)
    return module


INITIALISERS = {
    "linear": lambda: nn.Linear(30, 17),
    "small-linear": lambda: nn.Linear(5, 8),
    "conv": lambda: nn.Conv2d(3, 8, 3),
    "grouped-conv": lambda: nn.Conv1d(8, 8, 5, groups=4),
    "transposed-conv": lambda: nn.ConvTranspose2d(4, 6, 3),
    "lstm": lambda: nn.LSTM(6, 10),
    "gru": lambda: nn.GRU(6, 10),
    "attention": lambda: nn.MultiheadAttention(16, 2),
    "xavier": lambda: reset(nn.Linear(30, 17), nn.init.xavier_uniform_),
    "kaiming-uniform": lambda: reset(
        nn.Linear(30, 17), lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu")
    ),
    "kaiming-normal": lambda: reset(
        nn.Conv2d(3, 8, 3), lambda w: nn.init.kaiming_normal_(w, mode="fan_out")
    ),
    "bert": lambda: reset(nn.Linear(64, 64), lambda w: w.normal_(0, 0.02)),
    "truncated": lambda: reset(
        nn.Linear(64, 64), lambda w: nn.init.trunc_normal_(w, 0, 0.02, -0.04, 0.04)
    ),
    "orthogonal": lambda: reset(nn.Linear(30, 17), nn.init.orthogonal_),
    "zeros": lambda: reset(nn.Linear(30, 17), nn.init.zeros_),
    "table": lambda: nn.Sequential(nn.Embedding(50, 16), nn.LayerNorm(16)),
    "no-bias": lambda: nn.Linear(30, 17, bias=False),
    "llama": lambda: nn.Sequential(
        reset(nn.Linear(64, 64, bias=False), lambda w: w.normal_(0, 0.02)),
        nn.RMSNorm(64),
    ),
}


@pytest.mark.parametrize("name", INITIALISERS)
@pytest.mark.parametrize("seed", range(3))
def test_named_initialisers_match(name, seed):
    torch.manual_seed(seed)
    assert judged(INITIALISERS[name]()) == {Stage.INIT}


@pytest.mark.parametrize("name", INITIALISERS)
@pytest.mark.parametrize("lr", [1e-1, 1e-3, 1e-5])
def test_one_step_refutes(name, lr):
    torch.manual_seed(0)
    model = INITIALISERS[name]()
    sgd = torch.optim.SGD(model.parameters(), lr=lr)
    sum((p * torch.randn_like(p)).sum() for p in model.parameters()).backward()
    sgd.step()
    assert judged(model, sgd) == {Stage.UNKNOWN}


def test_state_of_an_optimiser_proves_training():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    adam = torch.optim.Adam(model[1].parameters())
    model(torch.ones(2, 8)).sum().backward()
    adam.step()
    assert stages(model, of(model), adam, None) == {
        "0.weight": Stage.INIT,  # not the optimiser's
        "1.weight": Stage.TRAINED,
    }


@pytest.mark.parametrize("together", [True, False])
def test_only_what_an_optimiser_has_stepped_is_trained(together):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    used = torch.optim.Adam((model if together else model[0]).parameters())
    unused = torch.optim.Adam(model[2].parameters())
    model[0](torch.randn(3, 4)).sum().backward()
    used.step()
    given = used if together else [used, unused]
    assert stages(model, of(model), given, None) == {
        "0.weight": Stage.TRAINED,
        "2.weight": Stage.INIT,
    }


def test_lbfgs_keeps_one_state_for_all():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.LBFGS(model.parameters())

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().sum()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    assert judged(model, optimizer) == {Stage.TRAINED}


def test_batch_norm_counters_leave_nothing_initial():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    assert judged(model) == {Stage.INIT}
    model(torch.randn(4, 8))
    assert judged(model) == {Stage.UNKNOWN}


def test_the_user_is_believed():
    model = reset(nn.Linear(8, 8), lambda w: w.normal_(0, 7))
    assert judged(model) == {Stage.UNKNOWN}
    assert judged(model, said=Stage.INIT) == {Stage.INIT}
    assert judged(nn.Linear(8, 8), said=Stage.TRAINED) == {Stage.TRAINED}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.weight.mul_(0.999),
        lambda m: m.weight[0].mul_(1.7),
        lambda m: m.bias.add_(1e-6),
        lambda m: m.weight.copy_(m.weight.half()),
    ],
)
def test_a_changed_uniform_matches_nothing(spoil):
    torch.manual_seed(0)
    model = nn.Linear(60, 32)  # a bound of 1/8 would keep halved values on the grid
    with torch.no_grad():
        spoil(model)
    assert judged(model) == {Stage.UNKNOWN}


def test_normal_weights_alone_prove_nothing():
    model = reset(nn.Linear(64, 64, bias=False), lambda w: w.normal_(0, 0.02))
    assert judged(model) == {Stage.UNKNOWN}


@pytest.mark.parametrize("where", [{"device": "meta"}, {"dtype": torch.float64}])
def test_what_cannot_be_looked_at_is_unknown(where):
    assert judged(nn.Linear(64, 32, **where)) == {Stage.UNKNOWN}


def test_a_parameter_without_an_axis_is_looked_at_too():
    model = nn.Sequential(nn.Linear(4, 8))
    model.register_parameter("scale", nn.Parameter(torch.tensor(2.0)))
    assert judged(model) == {Stage.INIT}
