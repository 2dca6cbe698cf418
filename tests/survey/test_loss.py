"""What losses of all kinds want, seen by their values alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from asking import facts, normal
from netting import seeded
from plumbob.survey.batches import Batch
from plumbob.survey.loss import loss_facts
from plumbob.survey.loss_at import LossAt
from plumbob.survey.measure import measure
from plumbob.survey.outcome import NotMeasuredError
from plumbob.survey.probe import Probed
from plumbob.survey.scene import Scene

Z = normal(64, 5)
ONE = normal(64, 1)
CLASSES = torch.randint(5, (64,), generator=seeded(1))
ONE_HOT = functional.one_hot(CLASSES, 5).float()
LABELS = (torch.rand(64, 5, generator=seeded(2)) < 0.4).float()
SHARES = normal(64, 5, seed=3).softmax(-1)
ZERO_ONE = LABELS[:, :1]


def clamped(p):
    return p.clamp(1e-7, 1 - 1e-7)


def of_shares(outputs, targets):
    p = clamped(outputs / outputs.sum(-1, keepdim=True))
    return -p.gather(1, targets[:, None]).log().mean()


def of_probabilities(outputs, targets):
    p = clamped(outputs)
    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()


def focal(outputs, targets):
    p = outputs.softmax(-1).gather(1, targets[:, None])
    return -((1 - p) ** 2 * p.log()).mean()


def distilled(outputs, targets):
    return functional.kl_div(outputs, targets, reduction="batchmean")


def dice(outputs, targets):
    return 1 - 2 * (outputs * targets).sum() / (outputs + targets).sum()


def hinge(outputs, targets):
    return (1 - (2 * targets - 1) * outputs).relu().mean()


def critic(outputs, targets):
    return ((1 - 2 * targets) * outputs).mean()


def on_one_hot(loss):
    return lambda outputs, targets: loss(outputs, functional.one_hot(targets, 5) * 1.0)


@pytest.mark.parametrize(
    ("loss", "targets", "wants"),
    [
        (nn.CrossEntropyLoss(), CLASSES, "scores"),
        (nn.CrossEntropyLoss(), ONE_HOT, "scores"),
        (nn.CrossEntropyLoss(), SHARES, "scores"),
        (nn.CrossEntropyLoss(torch.arange(1.0, 6.0)), CLASSES, "scores"),
        (nn.CrossEntropyLoss(label_smoothing=0.2), CLASSES, "scores"),
        (nn.BCEWithLogitsLoss(), LABELS, "scores"),
        (nn.MultiMarginLoss(), CLASSES, "scores"),
        (focal, CLASSES, "scores"),
        (nn.NLLLoss(), CLASSES, "log-probabilities"),
        (distilled, SHARES, "log-probabilities"),
        (lambda o, y: functional.nll_loss(o.log(), y), CLASSES, "probabilities"),
        (of_shares, CLASSES, "probabilities"),
        (of_probabilities, LABELS, "probabilities"),
        (nn.BCELoss(), LABELS, "probabilities"),
        (lambda o, y: dice(o, y) + nn.BCELoss()(o, y), LABELS, "probabilities"),
        (nn.MSELoss(), LABELS, "numbers"),
        (nn.L1Loss(), ONE_HOT, "numbers"),
        (nn.HuberLoss(), ONE_HOT, "numbers"),
        (nn.MSELoss(), SHARES, "numbers"),
        (on_one_hot(functional.mse_loss), CLASSES, "numbers"),
        (dice, LABELS, None),
        (lambda o, y: (1 - o.gather(1, y[:, None])).mean(), CLASSES, None),
    ],
)
def test_what_a_loss_wants(loss, targets, wants):
    assert facts(loss, Z.softmax(-1), targets, z=Z).wants == wants


@pytest.mark.parametrize(
    ("loss", "wants"),
    [
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([9.0])), "scores"),
        (hinge, "scores"),
        (critic, None),  # falls for ever on both sides
        (of_probabilities, "probabilities"),
        (nn.MSELoss(), "numbers"),
    ],
)
def test_what_a_loss_of_one_unit_wants(loss, wants):
    assert facts(loss, ONE, ZERO_ONE).wants == wants


@pytest.mark.parametrize(
    ("loss", "targets", "shift_free", "scale_free"),
    [
        (nn.CrossEntropyLoss(), CLASSES, True, False),
        (nn.MultiMarginLoss(), CLASSES, True, False),
        (of_shares, CLASSES, False, True),
        (nn.BCEWithLogitsLoss(), LABELS, False, False),
        (nn.MSELoss(), LABELS, False, False),
        (
            lambda o, y: (
                functional.cross_entropy(o, y) + 1e-3 * o.logsumexp(-1).square().mean()
            ),
            CLASSES,
            False,
            False,
        ),
        (
            lambda o, y: functional.cosine_embedding_loss(
                o, LABELS[: len(o)].repeat(len(o) // len(LABELS[: len(o)]), 1) + 0.1, y
            ),
            torch.ones(64),
            False,
            True,
        ),
    ],
)
def test_what_leaves_a_loss_alone(loss, targets, shift_free, scale_free):
    known = facts(loss, Z, targets)
    assert (known.shift_free, known.scale_free) == (shift_free, scale_free)


@pytest.mark.parametrize(
    ("loss", "reduction"),
    [
        (nn.CrossEntropyLoss(), "mean"),
        (nn.CrossEntropyLoss(reduction="sum"), "sum"),
        (lambda o, y: functional.cross_entropy(o, y, reduction="sum") / 64, "sum"),
        (lambda o, y: functional.cross_entropy(o, y, reduction="sum") / len(o), "mean"),
        # in-batch contrast: more samples are more to be told apart from
        (lambda o, y: functional.cross_entropy(o @ o.T, torch.arange(len(o))), "other"),
    ],
)
def test_whether_it_is_a_mean_or_a_sum(loss, reduction):
    assert facts(loss, Z, CLASSES).reduction == reduction


@pytest.mark.parametrize(
    ("outputs", "targets", "kind"),
    [
        (Z, CLASSES, "classes"),
        (Z, CLASSES.where(CLASSES != 2, -100), "classes"),
        (Z, ONE_HOT, "one-hot"),
        (Z, LABELS, "binary"),
        (Z, SHARES, "shares"),
        (ONE, ZERO_ONE, "binary"),
        (ONE, CLASSES[:, None].float(), "levels"),
        (ONE, 2 * CLASSES[:, None].float(), "numbers"),  # 0, 2, 4, ...
        (ONE, normal(64, 1, seed=5), "numbers"),
        (Z, normal(64, 2, seed=5), None),
    ],
)
def test_targets(outputs, targets, kind):
    def any_loss(o, y):
        return o.square().mean() + 0 * y.double().mean()

    assert facts(any_loss, outputs, targets).targets == kind


def test_slope_against_cross_entropy_of_even_shares():
    """2 / K^2 for the mean over units of squares behind a softmax over K."""
    loss = on_one_hot(functional.mse_loss)
    z = torch.zeros(64, 5)
    assert facts(loss, z.softmax(-1), CLASSES, z=z).gain == pytest.approx(2 / 25)
    p = ONE.sigmoid() * 0 + 0.5
    known = facts(nn.MSELoss(), p, ZERO_ONE, z=torch.zeros(64, 1))
    assert known.gain == pytest.approx(0.5)  # 2 p (1 - p)
    assert facts(of_shares, Z.softmax(-1), CLASSES, z=Z).gain == pytest.approx(1)


def test_samples_without_slope_and_broken_ones():
    z = torch.tensor([[-1.0, 2.0], [3.0, -1.0], [0.2, 0.8], [-1.0, -1.0]])
    y = torch.tensor([0, 0, 1, 1])
    known = facts(of_shares, z.relu(), y, z=z)
    # wrong and flat; right; between; 0 / 0
    assert (known.flat, known.broken) == (0.25, 0.25)
    assert known.value is None


def test_only_what_the_loss_reads_is_looked_at():
    outputs = {"logits": Z, "hidden": [normal(64, 3), normal(64, 2)], "mean": Z.mean()}
    known = facts(
        lambda o, y: functional.cross_entropy(o["logits"], y), outputs, CLASSES, z=Z
    )
    assert (known.wants, known.link, known.units) == ("scores", "identity", 5)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "why"),
    [
        (lambda o, y: (o[0] + o[1] - y).square().mean(), (ONE, ONE), ONE, "2 parts"),
        (lambda o, y: (o * torch.rand(1)).mean(), ONE, ONE, "two values"),
        (lambda o, y: (o - y[0]).square().mean(), ONE, (torch.ones(3), ONE), "one row"),
    ],
)
def test_what_cannot_be_asked(loss, outputs, targets, why):
    with pytest.raises(NotMeasuredError, match=why):
        LossAt.of(loss, outputs, targets)


@pytest.mark.parametrize("axes", [(0, 2, 1), (0, 1, 2)])
def test_the_axis_of_the_units_is_told_by_the_targets(axes):
    z = normal(16, 7, 5)
    y = torch.randint(5, (16, 7), generator=seeded())
    outputs = z.permute(axes)
    loss = (
        nn.CrossEntropyLoss()
        if axes[1] == 2
        else lambda o, y: functional.cross_entropy(o.flatten(0, 1), y.flatten())
    )
    known = facts(loss, outputs, y, z=z)
    assert (known.units, known.positions, known.shift_free) == (5, 7, True)
    assert known.link == "identity"


def test_a_loss_with_a_state_is_left_as_it_was():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.seen = []

        def forward(self, outputs, targets):
            self.calls += 1
            self.seen.append(1)
            return functional.mse_loss(outputs, targets)

    def made(kind, **values):
        thing = kind.__new__(kind)
        for name, value in values.items():
            object.__setattr__(thing, name, value)
        return thing

    probed = made(Probed, outputs=ONE, targets=ONE, net_inputs={})
    batch = Batch(samples=8)
    loss = Counting()
    known, _ = loss_facts(made(Scene, loss=loss, probed=probed, sites=(), batch=batch))
    assert known.batch == 8
    assert (float(loss.calls), loss.seen) == (0, [])
    silent = made(Scene, loss=None, probed=probed, sites=(), batch=batch)
    assert loss_facts(silent) == (None, "no loss that could be asked")


def test_the_size_of_the_outputs_is_told_of_the_finite_ones():
    outputs = 3 * Z + 1
    outputs[0, 0] = torch.inf
    known = facts(functional.mse_loss, outputs, Z)
    finite = outputs[outputs.isfinite()].double()
    assert (known.low, known.high) == (float(finite.min()), float(finite.max()))
    assert known.sd == pytest.approx(float(finite.std(correction=0)))


@pytest.mark.parametrize(
    ("loss", "targets", "told"),
    [
        (dice, LABELS, True),
        (nn.BCELoss(), LABELS, False),
        (nn.MSELoss(), normal(64, 5), False),
    ],
)
def test_where_it_is_not_known_what_a_loss_wants_that_is_told(loss, targets, told):
    model = nn.Sequential(nn.Linear(4, 5), nn.Sigmoid())
    survey = measure(model, (normal(64, 4), targets), loss=loss)
    assert ("loss, in part" in survey.unseen) == told
