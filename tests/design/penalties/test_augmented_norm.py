import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from nets import seeded
from plumbob.design.penalties.augmented_norm import AugmentedNorm
from plumbob.errors import InputError

C = 0.5


def fitted(penalty_of, x, y):
    """Minimise C * sum of the losses + half the penalty by L-BFGS in float64."""
    model = nn.Linear(x.shape[1], 1).double()
    penalty = penalty_of(model)
    lbfgs = torch.optim.LBFGS(
        model.parameters(),
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        lbfgs.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(
            model(x)[:, 0], y, reduction="sum"
        )
        value = C * loss + penalty() / 2
        value.backward()
        return value

    lbfgs.step(closure)
    return np.append(model.weight.detach().numpy(), model.bias.detach().numpy())


@pytest.mark.parametrize("scaling", [1.0, 3.0, 10.0])
def test_liblinear_with_intercept_scaling(scaling):
    x = torch.randn(200, 3, generator=seeded()).double()
    x += torch.tensor([0.5, -1.0, 2.0])
    logit = x @ torch.tensor([1.2, -1.0, 0.5]).double() - 2
    y = (torch.rand(200, generator=seeded(1)).double() < logit.sigmoid()).double()
    peer = LogisticRegression(
        C=C, solver="liblinear", intercept_scaling=scaling, tol=1e-12, max_iter=10_000
    ).fit(x.numpy(), y.numpy())
    oracle = np.append(peer.coef_, peer.intercept_)
    ours = fitted(lambda m: AugmentedNorm(m, bias=1 / scaling), x, y)
    np.testing.assert_allclose(ours, oracle, rtol=0, atol=5e-6)
    diagonal = torch.tensor([1.0, 1.0, 1.0, 1 / scaling])
    for matrix in (diagonal, diagonal.diag()):
        same = fitted(lambda m, D=matrix: AugmentedNorm(m, sites={"*": D}), x, y)
        np.testing.assert_allclose(same, ours, rtol=0, atol=1e-6)


def net():
    return nn.ModuleDict({
        "conv": nn.Conv2d(4, 6, 3, groups=2),
        "turned": nn.ConvTranspose2d(6, 4, 3),
        "norm": nn.BatchNorm2d(4),
        "lstm": nn.LSTM(4, 3),
        "table": nn.Embedding(5, 2),
        "head": nn.Linear(3, 2, bias=False),
    })


def test_it_is_the_sum_of_squares_of_maps_only():
    model = net()
    norm = AugmentedNorm(model, weight=2.0, bias=0.5, sites={"head": (3.0, 1.0)})
    maps = [model["conv"], model["turned"], model["lstm"]]
    named = [np_ for m in maps for np_ in m.named_parameters()]
    oracle = sum((0.25 if "bias" in n else 4) * p.square().sum() for n, p in named)
    oracle = oracle + 9 * model["head"].weight.square().sum()
    torch.testing.assert_close(norm(), oracle)
    norm().backward()
    torch.testing.assert_close(model["conv"].weight.grad, 8 * model["conv"].weight)
    assert model["norm"].weight.grad is None


@pytest.mark.parametrize("name", ["conv", "turned", "head"])
def test_a_matrix_that_is_diagonal_is_the_two_numbers(name):
    model = net().double()
    layer = {"conv": 18, "turned": 54, "head": 3}[name]
    D = torch.full((layer + 1,), 2.0)
    D[-1] = 0.5
    numbers = AugmentedNorm(model, weight=0.0, bias=0.0, sites={name: (2.0, 0.5)})
    matrix = AugmentedNorm(model, weight=0.0, bias=0.0, sites={name: D.diag()})
    torch.testing.assert_close(matrix(), numbers())


def test_groups_decay_as_the_norm_in_the_loss():
    a, b = net().double(), net().double()
    b.load_state_dict(a.state_dict())
    a["conv"].bias.requires_grad_(False)
    norm, other = (AugmentedNorm(m, weight=1.5, bias=0.5) for m in (a, b))
    groups = norm.groups(0.1)
    assert [g["weight_decay"] for g in groups] == [
        pytest.approx(2 * 0.1 * d**2) for d in (1.5, 0.5, 0)
    ]
    held = [p for g in groups for p in g["params"]]
    assert len(held) == len(set(held)) == len(list(a.parameters())) - 1
    sgd = torch.optim.SGD(groups, lr=0.1)
    for p in a.parameters():
        p.grad = torch.zeros_like(p)
    sgd.step()
    plain = torch.optim.SGD(
        [p for n, p in b.named_parameters() if n != "conv.bias"], 0.1
    )
    (0.1 * other()).backward()
    plain.step()
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_what_is_refused():
    with pytest.raises(InputError, match=r"got 'haed', which fits none\. Did you mean"):
        AugmentedNorm(net(), sites={"haed": (1.0, 1.0)})
    with pytest.raises(InputError, match=r"\(any, 4\).* for head .* got \[3, 3\]"):
        AugmentedNorm(net(), sites={"head": torch.eye(3)})
    with pytest.raises(InputError, match="which no weight decay equals"):
        AugmentedNorm(net(), sites={"head": torch.eye(4)}).groups(0.1)
    with pytest.raises(InputError, match="in ReLU, got none"):
        AugmentedNorm(nn.ReLU())


def test_what_cannot_be_read_is_said():
    model = nn.ModuleList([nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))])
    norm = AugmentedNorm(model.append(nn.Linear(3, 2)))
    assert norm.unseen == {"0": "its weight is computed from other parameters"}
