import copy
import math
import time

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn
from torch.nn.functional import kl_div, nll_loss

from plumbob import design
from plumbob.design.prior import regression
from plumbob.errors import InputError

G = torch.Generator().manual_seed(1)
Y = torch.zeros(1000)
Y[:10] = 1
YK = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
V = torch.randn(300, 3, generator=G).exp()
SHARES = V / V.sum(1, keepdim=True)
LABELS = (torch.rand(200, 3, generator=G) < torch.tensor([0.1, 0.5, 0.3])).float()
DENSE = torch.randint(0, 3, (20, 4, 5), generator=G)
DENSE[0] = 255
SQUARE = torch.randint(0, 3, (20, 3, 3), generator=G)
WK = torch.tensor([1.0, 2.0, 5.0])
W = torch.rand(300, generator=G)


def numerically(loss, targets, units, **more):
    """The same without a formula: a function is not known."""
    own = copy.deepcopy(loss)
    own = own.double() if isinstance(own, nn.Module) else own
    if not targets.is_floating_point():
        zeros = torch.zeros(len(targets), units, *targets.shape[1:])
        more = {"scores": zeros, **more}
    return design.optimal_bias(lambda o, t: own(o, t), targets, units=units, **more)


KNOWN = [
    (nn.BCEWithLogitsLoss(), Y, 1),
    (nn.BCEWithLogitsLoss(pos_weight=WK), LABELS, 3),
    (nn.BCEWithLogitsLoss(weight=WK, reduction="sum"), LABELS, 3),
    (nn.BCEWithLogitsLoss(weight=1 + torch.rand(1000, generator=G)), Y, 1),
    (nn.MultiLabelSoftMarginLoss(), LABELS, 3),
    (nn.SoftMarginLoss(), 2 * LABELS - 1, 3),
    (nn.CrossEntropyLoss(weight=WK, label_smoothing=0.1), YK, 3),
    (nn.CrossEntropyLoss(weight=WK, label_smoothing=0.1), SHARES, 3),
    (nn.CrossEntropyLoss(weight=WK), 3 * SHARES, 3),
    (nn.CrossEntropyLoss(ignore_index=255, weight=WK), DENSE, 3),
    (nn.CrossEntropyLoss(label_smoothing=0.1), YK, 4),
    (nn.CrossEntropyLoss(), SQUARE, 3),
    (nn.BCEWithLogitsLoss(pos_weight=WK), LABELS[:, :, None].repeat(1, 1, 3), 3),
    (nn.MSELoss(), V, 3),
    (nn.HuberLoss(delta=0.7), V, 3),
    (nn.SmoothL1Loss(beta=0.3), V, 3),
    (nn.PoissonNLLLoss(), V.round(), 3),
    (nn.PoissonNLLLoss(log_input=False), 1 + V.round(), 3),
]


@pytest.mark.parametrize(
    ("loss", "targets", "units"), KNOWN, ids=lambda v: type(v).__name__
)
def test_torchs_losses_agree_with_their_minimum(loss, targets, units):
    found = design.optimal_bias(loss, targets, units=units).bias
    seen = numerically(loss, targets, units).bias
    assert torch.allclose(found, seen, atol=1e-5), (found, seen)


LINKED = [
    (
        nn.NLLLoss(weight=WK),
        YK,
        lambda o, t: nll_loss(o.log_softmax(1), t, WK.double()),
    ),
    (nn.BCELoss(), LABELS, lambda o, t: nn.BCELoss()(o.sigmoid(), t)),
    (nn.KLDivLoss(reduction="sum"), SHARES, lambda o, t: kl_div(o.log_softmax(1), t)),
    (
        nn.KLDivLoss(reduction="sum", log_target=True),
        SHARES.log(),
        lambda o, t: kl_div(o.log_softmax(1), t.exp()),
    ),
    (
        nn.GaussianNLLLoss(),
        V,
        lambda o, t: nn.GaussianNLLLoss()(o, t, torch.full_like(o, 3.0)),
    ),
]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize(
    ("loss", "targets", "written"), LINKED, ids=lambda v: type(v).__name__
)
def test_losses_that_take_no_scores(loss, targets, written, spread):
    scores = spread * torch.randn(len(targets), 3, generator=G)
    found = design.optimal_bias(loss, targets, scores=scores)
    seen = numerically(written, targets, 3, scores=scores)
    assert torch.allclose(found.bias, seen.bias, atol=1e-5)
    link = {"NLL": "log_softmax", "KLD": "log_softmax", "BCE": "sigmoid"}
    if not spread:
        assert link.get(type(loss).__name__[:3], "one variance") in found.note


def test_multi_class_margin_is_the_linear_programme():
    pi, k = [0.7, 0.2, 0.1], 3
    pairs = [(a, b) for a in range(k) for b in range(k) if a != b]
    cost = [0.0] * k + [pi[a] for a, _ in pairs]
    rows = np.zeros((len(pairs), k + len(pairs)))
    for row, (a, b) in enumerate(pairs):  # slack >= 1 - b_a + b_b
        rows[row, [a, b, k + row]] = -1, 1, -1
    best = linprog(
        cost, rows, -np.ones(len(pairs)), bounds=[(-9, 9)] * k + [(0, 99)] * 6
    )
    for loss in (nn.MultiMarginLoss(), nn.MultiMarginLoss(p=2)):
        b = design.optimal_bias(loss, YK).bias
        height = loss(b.expand(100, 3), YK).item()
        if loss.p == 1:
            assert height == pytest.approx(best.fun / k, abs=1e-9)
        for step in torch.randn(50, 3, generator=G).double():
            assert loss((b + 0.1 * step).expand(100, 3), YK).item() >= height - 1e-9


def test_terms_explain_the_bias():
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0))
    found = design.optimal_bias(loss, Y, offset=-math.log(0.1))
    assert list(found.terms) == ["log-odds", "log pos_weight", "offset"]
    assert found.bias.item() == pytest.approx(math.log(1 / 99) + math.log(50))
    assert "rate 0.01" in str(found)


def test_absolute_error_gives_the_interval():
    found = design.optimal_bias(nn.L1Loss(), torch.tensor([1.0, 2.0, 4.0, 8.0]))
    assert (found.bias.item(), found.high.item()) == (3, 4)
    found = design.optimal_bias(nn.HuberLoss(), torch.tensor([0.0, 0.0, 10.0, 10.0]))
    assert (found.bias.item(), found.high.item()) == pytest.approx((5, 9), abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "counts", "said"),
    [
        (nn.CrossEntropyLoss(), [70, 20, 10, 0.5], "1 classes without"),
        (nn.CrossEntropyLoss(ignore_index=1), [70, 0.5, 10, 0.5], "2 classes"),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 0, 3])), None, "2 classes"),
    ],
)
def test_what_never_occurs_counts_a_half(loss, counts, said):
    found = design.optimal_bias(loss, YK, units=4)
    counts = counts or [70, 2 * 20, 0.5, 3 * 0.5]  # weight 0: the least of the others
    expected = torch.tensor(counts).double().log()
    assert torch.allclose(found.bias, expected - expected.mean(), atol=1e-6)
    assert said in found.note
    assert "count 1/2" not in design.optimal_bias(nn.CrossEntropyLoss(), YK).note


@pytest.mark.parametrize(
    ("loss", "targets", "units"),
    [
        (nn.CrossEntropyLoss(), YK, 5),
        (nn.CrossEntropyLoss(), DENSE % 3, 4),
        (nn.BCEWithLogitsLoss(), LABELS * torch.tensor([0.0, 1, 1]), 3),
        (nn.BCEWithLogitsLoss(), torch.ones(50), 1),
    ],
)
def test_half_counts_beside_scores_go_over_into_the_formula(loss, targets, units):
    formula = design.optimal_bias(loss, targets, units=units)
    shape = (
        len(targets),
        units,
        *(targets.shape[1:] if targets.dtype is YK.dtype else ()),
    )
    scores = torch.full(shape, 1e-9)
    found = design.optimal_bias(loss, targets, scores=scores)
    assert torch.allclose(found.bias, formula.bias, atol=1e-5)
    assert "counts 1/2" in found.note


def test_weights_of_samples_are_repetitions():
    times = torch.randint(1, 4, (300,), generator=G)
    scores = torch.randn(300, 3, generator=G)
    for loss, y in (
        (nn.PoissonNLLLoss(), V.round()),
        (nn.CrossEntropyLoss(weight=WK, ignore_index=2), torch.arange(300) % 3),
        (nn.GaussianNLLLoss(), V),
        (lambda o, t: (o - t).square().sum(1), V),
    ):
        weighted = design.optimal_bias(loss, y, scores=scores, weight=times)
        y, z = (t.repeat_interleave(times, 0) for t in (y, scores))
        repeated = design.optimal_bias(loss, y, scores=z)
        assert torch.allclose(weighted.bias, repeated.bias, atol=1e-5)


class Mine(nn.BCEWithLogitsLoss):
    def forward(self, input, target):
        return super().forward(2 * input, target)


def test_a_subclass_is_not_taken_for_its_parent():
    found = design.optimal_bias(Mine(), Y)
    assert list(found.terms) == ["numerical"]
    assert found.bias.item() == pytest.approx(math.log(1 / 99) / 2, abs=1e-5)


def test_the_loss_is_left():
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))
    design.optimal_bias(loss, Y, scores=torch.randn(1000, 1), weight=torch.ones(1000))
    assert (loss.pos_weight.dtype, loss.reduction) == (torch.float32, "mean")


CE = nn.CrossEntropyLoss
REFUSED = [
    (lambda: design.optimal_bias(CE(), YK, units=2), "0 to 1, got 0 to 2"),
    (lambda: design.optimal_bias(CE(), YK - 1, scores=V[:100]), "got -1 to 1"),
    (lambda: design.optimal_bias(CE(), YK * 0 - 100), "all -100, the ignore_index"),
    (lambda: design.optimal_bias(CE(weight=WK[:2]), YK, units=3), "of 3 classes"),
    (lambda: design.optimal_bias(CE(weight=WK * 0), YK), "not all 0"),
    (lambda: design.optimal_bias(CE(), -SHARES), "expected probabilities"),
    (lambda: design.optimal_bias(nn.MSELoss(), V, units=2), r"\(N, 2\)"),
    (lambda: design.optimal_bias(nn.MSELoss(), V, scores=V[:9]), "of the 300 samples"),
    (lambda: design.optimal_bias(nn.MarginRankingLoss(), Y), "free"),
    (
        lambda: design.optimal_bias(lambda o, t: (o - o.mean()).square().mean(), Y),
        "does not see",
    ),
    (lambda: design.optimal_bias(nn.MSELoss(), Y * math.nan), "finite"),
    (lambda: design.optimal_bias(nn.MSELoss(), Y[:0]), "at least one sample"),
    (lambda: design.optimal_bias(nn.MSELoss(), None), "got NoneType"),
    (lambda: design.optimal_bias(nn.MSELoss(), V, weight=-W), "0 or more"),
    (lambda: design.optimal_bias(nn.MSELoss(), V, weight=W[:5]), "300 samples"),
    (lambda: design.optimal_bias(nn.MSELoss(), V, offset=WK[:2]), "1 or 3 numbers"),
    (
        lambda: design.optimal_bias(lambda o, t: (o - t).sum(1).mean(), V, weight=W),
        "of each sample",
    ),
    (lambda: design.optimal_bias(nn.BCEWithLogitsLoss(), 1 + LABELS), "0 to 1 "),
    (lambda: design.optimal_bias(nn.PoissonNLLLoss(), -V), "counts of 0 or more"),
    (lambda: design.optimal_bias(lambda o, t: o.mean(), Y), "keeps falling"),
    (lambda: design.optimal_bias(lambda o, t: o.missing, Y), "failed on outputs"),
    (lambda: design.optimal_bias(lambda o, t: 1.0, Y), "returns a tensor, got float"),
]


@pytest.mark.parametrize(("act", "says"), REFUSED)
def test_refusals_say_what_to_do(act, says):
    with pytest.raises(InputError, match=says):
        act()


def test_formulas_are_quick():
    y = torch.randn(200_000, 10, generator=G).exp()
    start = time.perf_counter()
    for loss in (nn.MSELoss(), nn.L1Loss(), nn.HuberLoss()):
        design.optimal_bias(loss, y)
    assert time.perf_counter() - start < 4  # 0.3 s alone; 7 s by bisection alone


def test_hubers_root_from_a_first_guess_is_the_root():
    y = torch.cat([torch.randn(30_000, generator=G), 50 + torch.zeros(6_000)]).double()
    for weight in (None, torch.rand(36_000, generator=G)):
        b, end = regression.huber(y, 0.3, weight)
        w = torch.ones(36_000) if weight is None else weight
        assert abs((w.double() * (y - b).clamp(-0.3, 0.3)).sum()) < 1e-8
        assert b.item() == pytest.approx(end.item(), abs=1e-10)
