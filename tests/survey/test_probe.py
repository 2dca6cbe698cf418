import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import unfold
from torch.utils.checkpoint import checkpoint

from plumbob.errors import InputError
from plumbob.survey.batches import batches
from plumbob.survey.probe import probe
from plumbob.survey.trace import export, sites


def seen(model, data, *, found=None, options=None, **rest):
    feed = batches(model, data, **(options or {}))
    return probe(model, feed, () if found is None else found, **rest)


def traced(model, *args):
    return sites(model, export(model, args, {}, training=model.training))


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def agrees(reading, x, W, b, tolerance=1e-12):
    """E[z] = W mu + b and Var[z] = diag(W Sigma W') over the rows of x, in float64."""
    x, W, b = (np.asarray(t.detach().double()) for t in (x, W, b))
    mu = x.mean(0)
    close(reading.z.mean, W @ mu + b, tolerance)
    close(reading.shift, W @ mu, tolerance)
    sigma = (x - mu).T @ (x - mu) / len(x)
    close(reading.z.var, np.einsum("oi,ij,oj->o", W, sigma, W), tolerance)
    assert (reading.z.count == len(x)).all()


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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"stride": 2, "padding": 2},
        {"dilation": 2},
        {"groups": 2, "padding": 1},
        {"groups": 2, "stride": 2, "bias": False},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolution_against_unfolded_columns(options, layout):
    model = nn.Conv2d(4, 6, 3, **options).double()
    x = torch.randn(3, 4, 9, 8).double() + 1
    probed = seen(model, x.to(memory_format=layout))
    reading = probed.readings["weight"]
    padded = x
    if "padding_mode" in options:
        padded = nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    shape = {k: options.get(k, d) for k, d in (("dilation", 1), ("stride", 1))}
    shape["padding"] = 0 if padded is not x else options.get("padding", 0)
    columns = unfold(padded, 3, **shape).transpose(1, 2).reshape(-1, 36)
    groups = options.get("groups", 1)
    W = torch.block_diag(*model.weight.reshape(groups, 6 // groups, -1))
    bias = torch.zeros(6) if model.bias is None else model.bias
    agrees(reading, columns, W, bias)
    close(reading.x.mean, padded.mean((0, 2, 3)))


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution(groups):
    model = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=groups).double()
    x = torch.randn(3, 4, 5, 6).double() + 1
    reading = seen(model, x).readings["weight"]
    # z is linear in x: its matrix by feeding unit images
    basis = torch.eye(4 * 30).double().reshape(-1, 4, 5, 6)
    with torch.no_grad():
        flat = model(basis) - model.bias[:, None, None]
        z = x.reshape(3, -1) @ flat.reshape(120, -1)
    z = z.reshape(3, 6, -1) + model.bias[:, None]
    close(reading.z.mean, z.detach().mean((0, 2)))
    close(reading.z.var, z.detach().var((0, 2), correction=0))
    close(reading.shift, (z.mean((0, 2)) - model.bias).detach())
    (site,) = seen(model, x).sites
    assert (site.kind, site.out, site.transposed) == ("conv-transpose", 6, True)
    assert site.fan_in == 4 // groups * 9


def test_packed_and_split_attention():
    model = nn.MultiheadAttention(6, 2, batch_first=True).double().eval()
    x, y = torch.randn(3, 5, 6).double() + 1, torch.randn(3, 4, 6).double()
    W, b = model.in_proj_weight, model.in_proj_bias
    with torch.no_grad():
        model.in_proj_bias.normal_()
    probed = seen(model, (x, x, x), found=traced(model, x, x, x))
    assert not probed.sites
    rows = x.reshape(-1, 6)
    whole = probed.readings.get("in_proj_weight")
    parts = [(0, 6), (6, 12), (12, 18)]
    if whole is not None:
        agrees(whole, rows, W, b)
    else:
        for low, high in parts:
            reading = probed.readings[f"in_proj_weight[{low}:{high}]"]
            agrees(reading, rows, W[low:high], b[low:high])
    assert probed.readings["out_proj"].z.count[0] == 15
    cross = seen(model, (x, y, y))
    assert set(cross.readings) == {
        "in_proj_weight[0:6]",
        "in_proj_weight[6:18]",
        "out_proj",
    }
    agrees(cross.readings["in_proj_weight[0:6]"], rows, W[:6], b[:6])
    agrees(cross.readings["in_proj_weight[6:18]"], y.reshape(-1, 6), W[6:], b[6:])
    assert {s.rows for s in cross.sites} == {(0, 6), (6, 18), None}


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_gates(cell):
    model = cell(3, 4, num_layers=2, bidirectional=True).double()
    x = torch.randn(6, 5, 3).double()
    enabled = torch.backends.mkldnn.enabled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probed = seen(model, x, found=traced(model, x))
    assert torch.backends.mkldnn.enabled == enabled
    assert not probed.sites
    hidden = model(x)[0].detach()[..., :4]
    for suffix in ("l0", "l0_reverse"):
        W, b = (getattr(model, f"{kind}_ih_{suffix}") for kind in ("weight", "bias"))
        agrees(probed.readings[f"weight_ih_{suffix}"], x.reshape(-1, 3), W, b)
    assert (probed.readings["weight_hh_l1"].z.count == 30).all()
    assert len(probed.readings) == 8
    if cell is nn.RNN:
        assert hidden.shape == (6, 5, 4)


def test_lstm_hidden_state():
    model = nn.LSTM(3, 4).double()
    x = torch.randn(6, 5, 3).double()
    reading = seen(model, x).readings["weight_hh_l0"]
    h = model(x)[0].detach()
    before = torch.cat([torch.zeros(1, 5, 4).double(), h[:-1]])
    agrees(reading, before.reshape(-1, 4), model.weight_hh_l0, model.bias_hh_l0)


class Written(nn.Module):
    """Maps by hand: the bias is added apart, in place, twice or never."""

    def __init__(self):
        super().__init__()
        self.W, self.V = (
            nn.Parameter(torch.randn(4, 5)),
            nn.Parameter(torch.randn(5, 3)),
        )
        self.b, self.c = nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(3))
        self.d = nn.Parameter(torch.randn(3))

    def forward(self, x):
        z = x @ self.W
        z += self.b
        a = z.relu_()
        y = torch.einsum("btd,de->bte", a, self.V)
        return y * 2 + self.c + self.d


def test_a_bias_that_is_added_next_belongs_to_z():
    model = Written().double()
    x = torch.randn(3, 6, 4).double() + 1
    for found in ((), traced(model, x)):
        readings = seen(model, x, found=found).readings
        agrees(readings["W"], x.reshape(-1, 4), model.W.T, model.b)
        a = (x @ model.W + model.b).relu().reshape(-1, 5)
        agrees(readings["V"], a, model.V.T, torch.zeros(3))


def test_a_matrix_on_the_left():
    model = nn.Linear(4, 3, bias=False).double()
    model.forward = lambda x: (model.weight @ x.T).relu_()
    x = torch.randn(7, 4).double()
    agrees(seen(model, x).readings["weight"], x, model.weight, torch.zeros(3))


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


def test_autocast():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    x = torch.randn(64, 8)
    found = traced(model, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
        probed = seen(model, [x, x], found=found)
        assert model(x).dtype == torch.bfloat16
    assert not probed.sites
    assert (probed.readings["2"].z.count == 128).all()
    plain = seen(model, x, found=found)
    close(probed.readings["0"].z.mean, plain.readings["0"].z.mean, 2e-2)


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
    close(one.net_inputs, many.net_inputs)
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


def squared(outputs, targets):
    return (outputs - targets).square().mean()


def test_gradients_equal_backward_and_leave_grad_alone():
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
    )
    model = model.double()
    model[0].bias.requires_grad_(False)
    unused = nn.Parameter(torch.zeros(2))
    model.register_parameter("unused", unused)
    x, y = torch.randn(20, 4).double(), torch.arange(20) % 3
    loss = nn.CrossEntropyLoss()
    with torch.no_grad():  # the caller's business
        probed = seen(model, (x, y), found=traced(model, x), loss=loss)
    assert all(p.grad is None for p in model.parameters())
    assert model[1].num_batches_tracked == 0
    loss(model(x), y).backward()
    for name, p in model.named_parameters():
        if not p.requires_grad:
            assert name not in probed.gradients
        elif p is unused:
            assert not probed.gradients[name].reached
        else:
            assert probed.gradients[name].reached
            close(probed.gradients[name].norm, p.grad.norm())
    close(probed.readings["3"].grad_weight, model[3].weight.grad.norm(dim=1))
    close(probed.readings["3"].grad_bias, model[3].bias.grad.abs())
    close(probed.readings["1"].grad_weight, model[1].weight.grad.abs())
    assert probed.readings["0"].grad_bias is None


def test_gradient_rows_of_a_transposed_convolution():
    model = nn.ConvTranspose1d(4, 6, 3, groups=2).double()
    x = torch.randn(5, 4, 8).double()
    found = traced(model, x)
    y = torch.randn(5, 6, 10).double()
    reading = seen(model, (x, y), found=found, loss=squared).readings["weight"]
    squared(model(x), y).backward()
    g = model.weight.grad  # (in, out / groups, places)
    rows = torch.cat([g[:2].transpose(0, 1), g[2:].transpose(0, 1)]).reshape(6, -1)
    close(reading.grad_weight, rows.norm(dim=1))


def test_nonfinite_gradients_are_counted():
    model = nn.Linear(3, 2)
    probed = seen(
        model,
        (torch.randn(4, 3), torch.zeros(4)),
        loss=lambda z, y: z[:, 0].sqrt().sum() + z[:, 1].sum(),
    )
    assert probed.gradients["weight"].nonfinite == 3
    assert probed.gradients["bias"].nonfinite == 1
    assert np.isfinite(probed.gradients["weight"].norm)


def test_gradients_are_off_on_demand_and_without_a_loss():
    model, x = nn.Linear(3, 1), torch.randn(4, 3)
    asked = seen(model, (x, x[:, :1]), loss=squared, gradients=False)
    assert asked.gradients == {}
    assert asked.loss is not None
    assert seen(model, x).gradients == {}
    assert seen(model, x).loss is None


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.fc, self.reentrant = nn.Linear(3, 3), reentrant

    def forward(self, x):
        x = x.requires_grad_()
        return checkpoint(self.fc, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_counts_once(reentrant):
    model, x = Checkpointed(reentrant), torch.randn(4, 3)
    probed = seen(model, (x, x), loss=squared)
    assert (probed.readings["fc"].z.count == 4).all()
    assert ("gradients" in probed.unseen) == reentrant
    assert bool(probed.gradients) != reentrant


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(3, 3), nn.Linear(3, 3)
        self.out.weight = self.fc.weight

    def forward(self, x):
        return self.out(self.fc(self.fc(x)))


def test_shared_modules_merge_and_tied_weights_are_told_apart():
    model, x = Shared().double(), torch.randn(8, 3).double()
    probed = seen(model, x)
    assert (sum(r.z.count for r in probed.readings.values()) == 24).all()
    rest = seen(model, x, found=traced(model, x))
    assert not rest.sites
    assert (sum(r.z.count for r in rest.readings.values()) == 24).all()


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


def test_norms_and_tables():
    model = nn.Sequential(
        nn.Embedding(9, 4), nn.LayerNorm(4), nn.RMSNorm(4), nn.Linear(4, 2)
    ).double()
    ids = torch.randint(9, (3, 5))
    probed = seen(model, ids, found=traced(model, ids))
    assert not probed.sites
    z = model[0](ids).detach()
    close(probed.readings["0"].z.mean, z.reshape(-1, 4).mean(0))
    z = model[1](z).detach()
    close(probed.readings["1"].z.mean, z.reshape(-1, 4).mean(0))
    z = model[2](z).detach()
    close(probed.readings["2"].z.mean, z.reshape(-1, 4).mean(0))


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
            "Linear or its loss failed on batch 1",
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
