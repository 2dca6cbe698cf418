import copy
import doctest
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from plumbob import design
from plumbob.errors import InputError

G = torch.Generator().manual_seed(1)
Y = torch.zeros(1000)
Y[:10] = 1
YK = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
V = torch.randn(300, 3, generator=G).exp()


def numerically(loss, targets, units):
    """The same without a formula: a subclass is not known."""
    own = copy.deepcopy(loss).double()
    return design.optimal_bias(lambda o, t: own(o, t), targets, units=units).bias


def zero_head(features, units, kind=nn.Linear):
    head = kind(features, units)
    nn.init.zeros_(head.weight)
    return head


LABELS = (torch.rand(200, 3, generator=G) < torch.tensor([0.1, 0.5, 0.3])).float()
DENSE = torch.randint(0, 3, (20, 4, 5), generator=G)
DENSE[0] = 255
WK = torch.tensor([1.0, 2.0, 5.0])
KNOWN = [
    (nn.BCEWithLogitsLoss(), Y, 1),
    (nn.BCEWithLogitsLoss(pos_weight=WK), LABELS, 3),
    (nn.BCEWithLogitsLoss(weight=WK, reduction="sum"), LABELS, 3),
    (nn.BCEWithLogitsLoss(weight=1 + torch.rand(1000, generator=G)), Y, 1),
    (nn.MultiLabelSoftMarginLoss(), LABELS, 3),
    (nn.SoftMarginLoss(), 2 * LABELS - 1, 3),
    (nn.CrossEntropyLoss(weight=WK, label_smoothing=0.1), YK, 3),
    (nn.CrossEntropyLoss(weight=WK, label_smoothing=0.1), V / V.sum(1)[:, None], 3),
    (nn.CrossEntropyLoss(ignore_index=255), DENSE, 3),
    (nn.BCEWithLogitsLoss(pos_weight=WK), LABELS[:, :, None].repeat(1, 1, 3), 3),
    (nn.MSELoss(), V, 3),
    (nn.HuberLoss(delta=0.7), V, 3),
    (nn.SmoothL1Loss(beta=0.3), V, 3),
    (nn.PoissonNLLLoss(), V.round(), 3),
]


@pytest.mark.parametrize(
    ("loss", "targets", "units"), KNOWN, ids=lambda v: type(v).__name__
)
def test_torchs_losses_agree_with_their_minimum(loss, targets, units):
    found = design.optimal_bias(loss, targets, units=units).bias
    seen = numerically(loss, targets, units)
    assert torch.allclose(found, seen, atol=1e-5), (found, seen)


def test_terms_explain_the_bias():
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0))
    found = design.optimal_bias(loss, Y, offset=-math.log(0.1))
    assert list(found.terms) == ["log-odds", "log pos_weight", "offset"]
    assert found.bias.item() == pytest.approx(math.log(1 / 99) + math.log(50))
    assert "rate 0.01" in str(found)


def test_absolute_error_gives_the_interval():
    found = design.optimal_bias(nn.L1Loss(), torch.tensor([1.0, 2.0, 4.0, 8.0]))
    assert (found.bias.item(), found.high.item()) == (3, 4)


def test_first_loss_of_a_rare_class():
    head, loss = zero_head(4, 1), nn.BCEWithLogitsLoss()
    x = torch.randn(1000, 4, generator=G)
    with torch.no_grad():
        head.bias.zero_()
        assert loss(head(x)[:, 0], Y).item() == pytest.approx(0.693, abs=5e-4)
        design.output_bias_(head, Y, loss=loss)
        assert loss(head(x)[:, 0], Y).item() == pytest.approx(0.056, abs=5e-4)


def test_the_scores_spread_counts():
    s = torch.special.ndtri((torch.arange(20000) + 0.5).double() / 20000).float()
    y = torch.zeros(20000)
    y[torch.randperm(20000, generator=G)[:200]] = 1
    head = nn.Linear(1, 1)
    nn.init.ones_(head.weight)
    found = design.output_bias_(
        head, y, loss=nn.BCEWithLogitsLoss(), features=s[:, None]
    )
    with torch.no_grad():
        assert head(s[:, None]).sigmoid().mean().item() == pytest.approx(0.01, rel=1e-3)
    assert found.bias.item() == pytest.approx(-5.079, abs=0.01)
    again = design.output_bias_(
        "0", y, loss=nn.BCEWithLogitsLoss(), model=nn.Sequential(head), data=s[:, None]
    )
    assert torch.allclose(again.bias, found.bias)


def test_mean_of_squared_error_with_features_is_exact():
    x = torch.randn(300, 4, generator=G) + 3
    head = nn.Linear(4, 3)
    before = head.weight.clone()
    design.output_bias_(head, V, loss=nn.MSELoss(), features=x)
    with torch.no_grad():
        assert torch.allclose(head(x).mean(0), V.mean(0), atol=1e-5)
    assert torch.equal(head.weight, before)


def test_dense_labels_of_a_convolution():
    head = zero_head(2, 3, lambda i, o: nn.Conv2d(i, o, 1))
    loss = nn.CrossEntropyLoss(ignore_index=255)
    design.output_bias_(head, DENSE, loss=loss)
    counts = torch.bincount(DENSE[1:].flatten()).double()
    expected = (counts / counts.sum()).log()
    expected -= expected.mean()
    assert torch.allclose(head.bias.double(), expected, atol=1e-6)


class Mine(nn.BCEWithLogitsLoss):
    def forward(self, input, target):
        return super().forward(2 * input, target)


def test_a_subclass_is_not_taken_for_its_parent():
    found = design.optimal_bias(Mine(), Y)
    assert list(found.terms) == ["numerical"]
    assert found.bias.item() == pytest.approx(math.log(1 / 99) / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (
            lambda: design.output_bias_(
                nn.Linear(2, 1, bias=False), Y, loss=nn.MSELoss()
            ),
            "bias=True",
        ),
        (lambda: design.output_bias_(nn.ReLU(), Y, loss=nn.MSELoss()), "linear map"),
        (
            lambda: design.output_bias_(
                "haed",
                Y,
                loss=nn.MSELoss(),
                model=nn.ModuleDict({"head": nn.Linear(2, 1)}),
            ),
            "Did you mean 'head'",
        ),
        (lambda: design.optimal_bias(nn.CrossEntropyLoss(), YK, units=2), "0 to 1"),
        (lambda: design.optimal_bias(nn.MSELoss(), V, units=2), r"\(N, 2\)"),
        (lambda: design.optimal_bias(nn.MarginRankingLoss(), Y), "free"),
        (
            lambda: design.optimal_bias(lambda o, t: (o - o.mean()).square().mean(), Y),
            "does not see",
        ),
        (lambda: design.optimal_bias(nn.MSELoss(), Y * math.nan), "finite"),
    ],
)
def test_refusals_say_what_to_do(act, says):
    with pytest.raises(InputError, match=says):
        act()


def test_a_refusal_leaves_the_head_and_the_loss():
    head, loss = nn.Linear(2, 1), nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))
    before = copy.deepcopy(head.state_dict())
    with pytest.raises(InputError):
        design.output_bias_(head, Y[:, None].expand(-1, 2), loss=loss)
    assert all(torch.equal(v, before[k]) for k, v in head.state_dict().items())
    design.output_bias_(head, Y, loss=loss, features=torch.randn(1000, 2))
    assert loss.pos_weight.dtype == torch.float32


def test_the_page_runs():
    page = Path(__file__).parents[2] / "docs" / "output-bias.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried > 10
    assert not failed
