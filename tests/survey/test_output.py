"""Closed forms of the best constant output, through `output_facts` itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from plumbob.survey.output import output_facts
from plumbob.types import Site

N = 1000
SHARES = np.array([0.5, 0.25, 0.15, 0.06, 0.03, 0.01])
K = len(SHARES)
MIXED = torch.randperm(N, generator=torch.Generator().manual_seed(0))
SORTED = torch.tensor(np.repeat(np.arange(K), np.rint(SHARES * N).astype(int)))
CLASSES = SORTED[MIXED]
ONE_HOT = functional.one_hot(CLASSES, K).float()
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0, 4.0, 8.0])
P = 0.03
BINARY = (MIXED < P * N).float()
GENERATOR = torch.Generator().manual_seed(0)
SKEWED = torch.randn(N, generator=GENERATOR).exp() * 3 + 0.1
COUNTS = torch.poisson(SKEWED, generator=GENERATOR)
bce = functional.binary_cross_entropy_with_logits
ce = functional.cross_entropy


def logit(p):
    return np.log(p / (1 - p))


def centred(b):
    return b - np.mean(b)


def head(kind="linear"):
    return Site(name="head", kind=kind, out=1, fan_in=1, weight="w", is_output=True)


def measured(z, outputs, targets, loss, site=None):
    z = [] if z is None else [(site or head(), z)]
    facts, unseen = output_facts(z, outputs, targets, loss)
    assert facts is not None, unseen
    assert not unseen
    return facts


def best(targets, loss, units=None):
    z = torch.zeros(len(targets)) if units is None else torch.zeros(len(targets), units)
    return measured(z, z, targets, loss).best


def focal(z, y, gamma=2.0, alpha=0.25):
    q = z.sigmoid()
    yes = -alpha * (1 - q) ** gamma * functional.logsigmoid(z)
    no = -(1 - alpha) * q**gamma * functional.logsigmoid(-z)
    return torch.where(y > 0, yes, no).mean()


def focal_root(p, gamma=2.0, alpha=0.25):
    def odds(b):
        low, high = -np.logaddexp(0, -b), -np.logaddexp(0, b)  # log q, log (1 - q)
        q, r = np.exp(low), np.exp(high)
        up = np.log(alpha * p) + gamma * high + np.log(r - gamma * q * low)
        down = np.log((1 - alpha) * (1 - p)) + gamma * low
        return up - down - np.log(q - gamma * r * high)

    low, high = -40.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if odds(middle) > 0 else (low, middle)
    return low


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (bce, logit(P)),
        (lambda z, y: ((z.sigmoid() - y) ** 2).mean(), logit(P)),
        (lambda z, y: bce(z, y, pos_weight=torch.tensor(5.0)), logit(P) + np.log(5)),
        (lambda z, y: bce(z, y, pos_weight=torch.tensor((1 - P) / P)), 0.0),
        (lambda z, y: bce(z, y * 0.9 + 0.05), logit(P * 0.9 + 0.05)),
        (lambda z, y: torch.exp(-(2 * y - 1) * z).mean(), logit(P) / 2),
        (lambda z, y: (torch.relu(1 - (2 * y - 1) * z) ** 2).mean(), 2 * P - 1),
        (lambda z, y: torch.relu(1 - (2 * y - 1) * z).mean(), -1.0),
        (focal, focal_root(P)),
        (nn.BCEWithLogitsLoss(reduction="sum"), logit(P)),
    ],
)
def test_binary(loss, expected):
    np.testing.assert_allclose(best(BINARY, loss), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (ce, np.log(SHARES)),
        (nn.CrossEntropyLoss(weight=WEIGHTS), np.log(SHARES * WEIGHTS.numpy())),
        (
            nn.CrossEntropyLoss(label_smoothing=0.1),
            np.log(0.9 * SHARES + 0.1 / K),
        ),
        (
            nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1),
            np.log(WEIGHTS.numpy() * (0.9 * SHARES + 0.1 / K)),
        ),
        (lambda z, y: ce(z + torch.tensor(np.log(SHARES)), y), np.zeros(K)),
        (lambda z, y: ce(z / 2.5, y), 2.5 * np.log(SHARES)),
    ],
)
def test_classes_up_to_a_common_constant(loss, expected):
    # Weights in float32 make torch refuse float64 logits: the search is in float32.
    exact = not isinstance(loss, nn.CrossEntropyLoss) or loss.weight is None
    found = centred(best(CLASSES, loss, K))
    np.testing.assert_allclose(found, centred(expected), atol=1e-5 if exact else 2e-3)


def test_many_labels_and_one_against_all():
    np.testing.assert_allclose(best(ONE_HOT, bce, K), logit(SHARES), atol=1e-5)


QUANTILE = 0.9


@pytest.mark.parametrize(
    ("targets", "loss", "expected"),
    [
        (SKEWED, functional.mse_loss, SKEWED.double().mean()),
        (SKEWED * 1e4, functional.mse_loss, SKEWED.double().mean() * 1e4),
        (COUNTS, functional.poisson_nll_loss, COUNTS.double().mean().log()),
        (
            SKEWED,
            lambda z, y: (y / z.exp() + z).mean(),  # gamma, log link
            SKEWED.double().mean().log(),
        ),
    ],
)
def test_regression(targets, loss, expected):
    np.testing.assert_allclose(best(targets, loss), float(expected), rtol=1e-5)


def test_huber_is_the_root_of_clipped_residuals():
    (b,) = best(SKEWED, lambda z, y: functional.huber_loss(z, y, delta=1.0))
    assert abs(np.clip(SKEWED.double().numpy() - b, -1, 1).mean()) < 1e-5


@pytest.mark.parametrize(
    ("loss", "quantile"),
    [
        (functional.l1_loss, 0.5),
        (lambda z, y: torch.maximum(0.9 * (y - z), -0.1 * (y - z)).mean(), 0.9),
    ],
)
def test_losses_with_corners_reach_the_quantile(loss, quantile):
    y = SKEWED.double().sort().values
    (b,) = best(SKEWED, loss)
    i = int(quantile * N)
    assert y[i - 1] - 1e-6 <= b <= y[i] + 1e-6


def test_the_four_losses_and_the_shift():
    z = torch.full((N, 1), 1.5)
    facts = measured(z, z.sigmoid(), BINARY[:, None], functional.binary_cross_entropy)
    entropy = -P * np.log(P) - (1 - P) * np.log(1 - P)
    assert facts.site == "head"
    np.testing.assert_allclose(
        [facts.loss, facts.shifted, facts.zero, facts.constant],
        [float(bce(z[:, 0], BINARY)), entropy, np.log(2), entropy],
        rtol=1e-6,
    )
    np.testing.assert_allclose(facts.shift, logit(P) - 1.5, atol=1e-5)
    np.testing.assert_allclose(facts.mean_target, [P], atol=1e-7)
    assert facts.samples == N


@pytest.mark.parametrize(
    ("link", "loss"),
    [
        (lambda z: z.log_softmax(-1), functional.nll_loss),
        (lambda z: z.softmax(-1), lambda p, y: functional.nll_loss(p.log(), y)),
        (lambda z: z, ce),
    ],
)
def test_the_link_is_recognised(link, loss):
    z = torch.randn(N, K, generator=torch.Generator().manual_seed(0)) * 1e-4
    facts = measured(z, link(z), CLASSES, loss)
    np.testing.assert_allclose(centred(facts.best), centred(np.log(SHARES)), atol=1e-4)
    np.testing.assert_allclose(facts.mean_target, SHARES, atol=1e-7)


def test_a_tanh_output_is_shifted_before_the_tanh():
    y = torch.rand(N, 1, generator=torch.Generator().manual_seed(0)) * 0.8 - 0.2
    expected = np.arctanh(float(y.double().mean()))
    half = torch.full((N, 1), 0.5)
    assert measured(half, half.tanh(), y, functional.mse_loss).best == pytest.approx(
        expected
    )
    zero, said = torch.zeros(N, 1), replace(head(), activation="tanh")
    assert measured(zero, zero, y, functional.mse_loss, said).best == pytest.approx(
        expected
    )


@pytest.mark.parametrize("shape", [(N, K), (50, 20, K), (50, K, 20), (50, K, 4, 5)])
@pytest.mark.parametrize("flat", [False, True])
def test_positions_share_one_shift(shape, flat):
    image, first = len(shape) == 4, len(shape) > 2 and shape[1] == K
    outputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    last = outputs if image or not first else outputs.movedim(1, -1)
    z = last.flatten(0, -2) if flat and not image else last
    rows = CLASSES.reshape([s for s in shape if s != K])

    def loss(o, y):
        return ce(o, y) if first else ce(o.flatten(0, -2), y.flatten())

    facts = measured(z, outputs, rows, loss, head("conv" if image else "linear"))
    assert facts.site == "head"
    np.testing.assert_allclose(centred(facts.best), centred(np.log(SHARES)), atol=1e-5)
    np.testing.assert_allclose(facts.mean_target, SHARES, atol=1e-7)


def test_without_z_the_output_itself_is_shifted():
    outputs = torch.ones(N, 1)
    facts = measured(None, outputs, SKEWED[:, None], functional.mse_loss)
    assert facts.site is None
    np.testing.assert_allclose(facts.shift, SKEWED.double().mean() - 1, rtol=1e-6)


def test_chance_is_twice_what_a_fit_of_noise_gains():
    gains, chances = [], []
    for seed in range(50):
        y = torch.randint(0, 10, (100,), generator=torch.Generator().manual_seed(seed))
        facts = measured(torch.zeros(100, 10), torch.zeros(100, 10), y, ce)
        gains.append(facts.loss - facts.shifted)
        chances.append(facts.chance)
    assert np.mean(gains) == pytest.approx(9 / 200, rel=0.2)
    assert np.mean(chances) == pytest.approx(9 / 100, rel=0.2)


ROOT = torch.tensor([0.0, *range(8)])


@pytest.mark.parametrize(
    ("outputs", "targets", "loss", "why"),
    [
        (ROOT, ROOT, lambda o, y: (o - y).square().sqrt().mean(), "its gradient is"),
        (
            torch.zeros(9),
            torch.zeros(9),
            functional.mse_loss,
            "all targets are the same",
        ),
        (torch.zeros(N, K), SORTED, ce, "come sorted"),
        (torch.zeros(9, 2), torch.rand(9), lambda o, y: o.sum(1), "not one number"),
        (torch.zeros(9), torch.rand(9), lambda o, y: o.sum() / 0, "not finite"),
        (torch.zeros(9, 3), torch.rand(9), lambda o, y: -o.mean(), "keeps falling"),
        (torch.zeros(3), torch.zeros(3), functional.mse_loss, "fewer than 8"),
        (torch.zeros(9), ["a"] * 9, functional.mse_loss, "one row for each sample"),
        ((torch.zeros(3),), torch.zeros(9), functional.mse_loss, "no part of the"),
        (
            torch.zeros(9),
            torch.zeros(8),
            functional.mse_loss,
            "one row for each sample",
        ),
        (torch.zeros(9, 5000), torch.rand(9), functional.mse_loss, "5000 units"),
        (
            torch.zeros(9, 4),
            torch.rand(9),
            lambda o, y: ce(o @ o.T, torch.arange(len(o))),
            "neither a mean nor a sum",
        ),
        (torch.zeros(9), torch.rand(9), lambda o, y: {}["x"], "cannot be taken"),
    ],
)
def test_reasons(outputs, targets, loss, why):
    facts, unseen = output_facts([], outputs, targets, loss)
    assert facts is None
    assert why in unseen["targets"]


def test_a_learned_loss_keeps_its_gradients():
    scale = torch.ones((), requires_grad=True)
    measured(
        None, torch.zeros(N), SKEWED, lambda z, y: functional.mse_loss(z * scale, y)
    )
    assert scale.grad is None


def test_a_class_that_never_occurs_does_not_send_the_others_up():
    facts = measured(None, torch.zeros(N, K + 1), CLASSES, ce)
    assert facts.shift[:K] == pytest.approx(centred(np.log(SHARES)), abs=1e-3)
    assert facts.shift[K] < -8


def test_half_precision_inside_shows_in_single_precision_outside():
    z = torch.randn(N, K, generator=GENERATOR)
    half = z.bfloat16()
    found = measured(half, half.float(), CLASSES, ce)
    assert found.site == "head"
    found = measured(half, z.softmax(-1), ONE_HOT, functional.mse_loss)
    assert found.site == "head"


Z = torch.randn(N, K, generator=torch.Generator().manual_seed(1))
HIDDEN = torch.randn(N, 2 * K, generator=torch.Generator().manual_seed(2))


def modeled(logits):
    from transformers.modeling_outputs import SequenceClassifierOutput

    return SequenceClassifierOutput(loss=logits.mean(), logits=logits)


@pytest.mark.parametrize(
    ("outputs", "loss"),
    [
        ((Z, HIDDEN), lambda o, y: ce(o[0], y)),
        ((HIDDEN, Z), lambda o, y: ce(o[1], y)),
        ({"logits": Z, "mean": Z.mean()}, lambda o, y: ce(o["logits"], y)),
        ({"all": [Z, (HIDDEN,)], "id": "a"}, lambda o, y: ce(o["all"][0], y)),
        (modeled(Z), lambda o, y: ce(o.logits, y)),
        ((HIDDEN[:7], None, Z), lambda o, y: ce(o[2], y)),
        (
            (Z, Z.softmax(-1)),  # both are moved
            lambda o, y: ce(o[0], y) / 2 + functional.nll_loss(o[1].log(), y) / 2,
        ),
    ],
    ids=["first", "second", "dict", "nested", "ModelOutput", "others", "two links"],
)
def test_the_part_of_the_output_that_the_loss_reads_is_shifted(outputs, loss):
    plain, found = measured(Z, Z, CLASSES, ce), measured(Z, outputs, CLASSES, loss)
    assert found.site == "head"
    np.testing.assert_allclose(found.shift, plain.shift, atol=1e-6)
    np.testing.assert_allclose(found.best, plain.best, atol=1e-6)
    assert found.loss == pytest.approx(plain.loss)
    np.testing.assert_allclose(found.mean_target, SHARES, atol=1e-7)


def test_targets_may_be_a_tree_too():
    def loss(o, y):
        return ce(o["logits"], y["label"])

    found = measured(Z, {"logits": Z}, {"label": CLASSES}, loss)
    np.testing.assert_allclose(centred(found.best), centred(np.log(SHARES)), atol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "loss", "why"),
    [
        (
            (Z, HIDDEN),
            lambda o, y: ce(o[0], y) + o[1].square().mean(),
            "reads 2 parts of the output",
        ),
        ((Z, HIDDEN, Z.mean()), lambda o, y: ce(o[0], y) + o[2], "taken again"),
        ((Z, HIDDEN, Z.mean()), lambda o, y: ce(o[0], y) if o[2] else 0, "a row for"),
        ((Z, HIDDEN), lambda o, y: ce(o[0].detach(), y), "does not require grad"),
        ((CLASSES, "a"), lambda o, y: ce(Z, y), "no part of the model's output"),
    ],
)
def test_what_is_held_must_not_count(outputs, loss, why):
    facts, unseen = output_facts([(head(), Z)], outputs, CLASSES, loss)
    assert facts is None
    assert why in unseen["targets"]


def test_two_maps_that_may_have_made_the_output():
    """Of heads that begin at zero no value tells which is which."""
    sites, zero = [head(), replace(head(), name="other")], torch.zeros(N, K)
    z = [(site, zero) for site in sites]
    facts, unseen = output_facts(z, (zero, zero), CLASSES, lambda o, y: ce(o[0], y))
    assert facts is None
    assert "several maps: head, other" in unseen["targets"]
    z = [(sites[0], zero), (sites[1], Z)]
    facts, _ = output_facts(z, (zero, Z), CLASSES, lambda o, y: ce(o[1], y))
    assert facts is not None
    assert facts.site == "other"
