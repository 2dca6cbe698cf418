import numpy as np
import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from probing import agrees, close, seen, squared, traced


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_linear_and_all_facts_of_z():
    model = nn.Linear(5, 3).double()
    x = torch.randn(4, 7, 5).double() + 3
    reading = seen(model, x).readings["weight"]
    agrees(reading, x.reshape(-1, 5), model.weight, model.bias)
    z = model(x).detach().reshape(-1, 3).numpy()
    close(reading.z.low, z.min(0))
    close(reading.z.high, z.max(0))
    assert (reading.z.positive == (z > 0).sum(0)).all()
    close(reading.x.mean, x.reshape(-1, 5).mean(0))
    close(reading.x.var, x.reshape(-1, 5).var(0, correction=0))
    assert reading.samples == 4


def test_a_mean_far_from_zero_keeps_its_spread_in_float32():
    model = nn.Linear(1, 1)
    x = 100 + 0.02 * torch.randn(4096, 1)
    model.weight.data.fill_(1.0), model.bias.data.zero_()
    z = model(x).detach().double()
    reading = seen(model, [x[:1000], x[1000:]]).readings["weight"]
    close(reading.z.var, z.var(0, correction=0), 1e-6)
    close(reading.x.mean, x.double().mean(0), 1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_full(dtype):
    model = nn.Linear(8, 4).to(dtype)
    x = torch.randn(3000, 8).to(dtype) + 5
    z = model(x).detach().double()
    reading = seen(model, x).readings["weight"]
    close(reading.z.mean, z.mean(0), 1e-6)
    close(reading.z.var, z.var(0, correction=0), 1e-5)


def test_batches_merge():
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2)
    ).double()
    x = torch.randn(50, 2, 6, 6).double() + 2
    y = torch.arange(50) % 2
    found = traced(model, x[:2])
    loss = nn.CrossEntropyLoss()
    one = seen(model, (x, y), found=found, loss=loss)
    pairs = [(x[i : i + 7], y[i : i + 7]) for i in range(0, 50, 7)]
    many = seen(model, pairs, found=found, loss=loss)
    assert one.samples == many.samples == 50
    close(one.loss, many.loss)
    for name, whole in one.readings.items():
        part = many.readings[name]
        for a, b in ((whole.x, part.x), (whole.z, part.z)):
            for fact in ("count", "mean", "m2", "low", "high", "positive"):
                close(getattr(a, fact), getattr(b, fact))
        close(whole.shift, part.shift)
        close(whole.grad_weight, part.grad_weight)
        assert part.samples == 50
    close(one.readings["0"].top, many.readings["0"].top, 1e-8)
    assert (one.readings["0"].saturated == many.readings["0"].saturated).all()
    close(one.net_inputs["3"], many.net_inputs["3"])
    close(one.outputs, model(x).detach())
    assert torch.equal(many.targets, y)


def test_saturated_and_top():
    model = nn.Sequential(nn.Linear(30, 5), nn.Sigmoid()).double()
    x = 3 * torch.randn(200, 30).double() + torch.arange(30) / 10
    model[0].weight.data.mul_(5)
    reading = seen(model, x, found=traced(model, x)).readings["0"]
    z = model[0](x).detach()
    slope = z.sigmoid() * (1 - z.sigmoid())
    assert (reading.saturated == (slope < 0.05 / 4).sum(0).numpy()).all()
    ones = np.ones((200, 1))
    for value, rows in zip(reading.top, (x, x - x.mean(0)), strict=True):
        design = np.hstack([rows.numpy(), ones])
        close(value, np.linalg.eigvalsh(design.T @ design / 200)[-1], 1e-8)


def test_the_sample_is_thinned_and_the_same_for_any_batches():
    model = nn.Linear(2, 1).double()
    x = torch.randn(500, 2).double()
    one = seen(model, x, keep=20).readings["weight"].sample
    many = seen(model, list(x.split(90)), keep=20).readings["weight"].sample
    assert 20 / 3 <= len(one) <= 20
    close(one, many)
    close(one, model(x).detach()[::27])
    assert seen(model, x).readings["weight"].sample is None


def test_inside_inference_mode():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(6, 3)
    with torch.inference_mode():
        probed = seen(model, (x, torch.zeros(6, 2)), loss=squared)
    assert probed.gradients["0.weight"].norm > 0
    assert (probed.readings["0"].z.count == 6).all()


def test_what_is_not_finite_is_counted():
    model = nn.Linear(2, 2).double()
    x = torch.randn(9, 2).double()
    x[3, 0], x[5, 1] = float("nan"), float("inf")
    reading = seen(model, x).readings["weight"]
    assert reading.x.nonfinite.tolist() == [1, 1]
    assert reading.z.nonfinite.tolist() == [2, 2]
    assert reading.z.count.tolist() == [7, 7]
    good = torch.tensor([i for i in range(9) if i not in {3, 5}])
    close(reading.z.var, model(x[good]).detach().var(0, correction=0))


def test_a_site_that_is_not_used_is_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    found = traced(model, torch.randn(2, 3))
    model.forward = lambda x: model[0](x)
    assert list(seen(model, torch.randn(4, 3), found=found).unseen) == ["1"]


def everything(model):
    return [t.clone() for t in model.state_dict().values()], torch.get_rng_state()


@pytest.mark.parametrize("breaks", [False, True])
def test_the_model_is_untouched(breaks):
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.ReLU(inplace=True)
    )
    before, rng = everything(model)
    data = [torch.randn(6, 4), torch.randn(6, 3 if breaks else 4)]
    rng = torch.get_rng_state()
    if breaks:
        with pytest.raises(
            InputError, match=r"batch 2 \(float32\[6, 3\]\): RuntimeErr"
        ):
            seen(model, data)
    else:
        seen(model, data)
    after, now = everything(model)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(rng, now)
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled()


def test_in_place_activations_do_not_change_what_was_measured():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True)).double()
    x = torch.randn(50, 4).double()
    reading = seen(model, x).readings["0"]
    agrees(reading, x, model[0].weight, model[0].bias)
    assert (reading.z.low < 0).all()


class Conjugate(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(2, 2, dtype=torch.complex64))

    def forward(self, x):
        return x @ self.W


@pytest.mark.parametrize(
    ("model", "data", "options", "says"),
    [
        (
            nn.BatchNorm1d(3),
            torch.randn(1, 3),
            {},
            "two values per channel, got one in b",
        ),
        (Conjugate(), torch.randn(3, 2), {}, "got complex numbers in W"),
        (nn.Linear(2, 2, device="meta"), torch.randn(3, 2), {}, "got no values"),
        (
            nn.Linear(2, 2),
            (torch.randn(3, 2), torch.zeros(3)),
            {"loss": lambda z, y: z},
            r"one real number from the loss, got \[3, 2\]",
        ),
        (
            nn.Linear(2, 2),
            (torch.randn(3, 2), torch.zeros(3)),
            {"loss": nn.CrossEntropyLoss()},
            "the loss failed on batch 1",
        ),
    ],
)
def test_what_cannot_be_measured(model, data, options, says):
    with pytest.raises(InputError, match=says):
        seen(model, data, **options)


def test_progress():
    told = []
    seen(nn.Linear(2, 1), [torch.randn(3, 2)] * 4, on_batch=told.append)
    assert told == [1, 2, 3, 4]


def test_the_data_are_untouched():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(5, 4)
    before = x.clone()
    seen(model, x)
    assert torch.equal(x, before)


def test_a_loss_that_works_in_place_spoils_nothing():
    def loss(outputs, targets):
        outputs -= targets.neg_()
        return outputs.square().sum()

    model, x, y = nn.Linear(4, 2), torch.randn(5, 4), torch.ones(5, 2)
    probed = seen(model, (x, y), loss=loss)
    assert torch.equal(y, torch.ones(5, 2))
    assert torch.equal(probed.targets, y)
    assert torch.allclose(probed.outputs, model(x))
    assert probed.loss == pytest.approx(float((model(x) + y).detach().square().sum()))
