import copy
import pickle

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from nets import mlp, seeded
from plumbob.design.penalties.effective_bias_decay import EffectiveBiasDecay
from plumbob.errors import InputError


def mean_slope(penalised, strength):
    """Train b of a tanh unit on x ~ N(5, 1), w = 1, whose target needs b = -5."""
    x = 5 + torch.randn(4000, 1, generator=seeded()).double()
    target = torch.tanh(x - 5)
    model = nn.Linear(1, 1).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(-5.0)
    model.weight.requires_grad_(False)
    decay = EffectiveBiasDecay(model, strength=strength)
    lbfgs = torch.optim.LBFGS(
        [model.bias], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        lbfgs.zero_grad()
        loss = (torch.tanh(model(x)) - target).square().mean()
        raw = strength * model.bias.square().sum()
        value = loss + (decay() if penalised == "effective" else raw)
        value.backward()
        return value

    lbfgs.step(closure)
    return float((1 - torch.tanh(model(x).detach()) ** 2).mean()), float(
        model.bias.detach()
    )


@pytest.mark.parametrize(
    ("penalised", "strength", "slope"),
    [
        ("raw", 0.0, 0.61),
        ("raw", 0.01, 0.61),
        ("raw", 0.1, 0.0014),
        ("raw", 1.0, 0.0014),
        ("effective", 0.01, 0.61),
        ("effective", 0.1, 0.605),
        ("effective", 1.0, 0.605),
    ],
)
def test_a_decay_of_b_saturates_and_one_of_the_effective_bias_does_not(
    penalised, strength, slope
):
    found, b = mean_slope(penalised, strength)
    assert found == pytest.approx(slope, rel=0.25 if slope < 0.1 else 0.02)
    assert (abs(b) < 0.1) == (slope < 0.1)


LAYERS = {
    "linear": (lambda: nn.Linear(5, 3), (16, 7, 5)),
    "no-bias": (lambda: nn.Linear(5, 3, bias=False), (16, 5)),
    "turned": (lambda: Conv1D(3, 5), (16, 7, 5)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding=2, dilation=2), (8, 4, 11)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (8, 4, 9, 8)),
    "same": (lambda: nn.Conv2d(4, 6, (2, 3), padding="same"), (8, 4, 9, 8)),
    "reflect": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        (8, 4, 9, 8),
    ),
    "single": (lambda: nn.Conv2d(4, 6, 3), (4, 9, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 6, 3, padding=1, groups=2), (3, 2, 5, 4, 6)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even:UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_it_is_the_mean_of_z_of_the_batch(name):
    make, shape = LAYERS[name]
    layer = make().double()
    x = 3 + torch.randn(shape, generator=seeded()).double()
    decay = EffectiveBiasDecay(layer, strength=0.5)
    z = layer(x)
    units = -layer.weight.ndim + 1 if layer.weight.ndim > 2 else -1
    mean = z.movedim(units, -1).flatten(0, -2).mean(0)
    (site,) = decay.means
    torch.testing.assert_close(decay.bias(site), mean)
    torch.testing.assert_close(decay(), 0.5 * mean.square().sum())
    decay().backward()
    got = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    (0.5 * mean.square().sum()).backward()
    for ours, p in zip(got, layer.parameters(), strict=True):
        torch.testing.assert_close(ours, p.grad)


@pytest.mark.parametrize("kdim", [None, 5])
def test_packed_and_split_attention(kdim):
    attention = nn.MultiheadAttention(4, 2, kdim=kdim, vdim=kdim, batch_first=True)
    with torch.no_grad():
        attention.in_proj_bias.normal_(generator=seeded())
    q = 1 + torch.randn(3, 6, 4, generator=seeded())
    k = 2 + torch.randn(3, 5, kdim or 4, generator=seeded(1))
    decay = EffectiveBiasDecay(attention, strength=1.0)
    attention(q, k, value=k)
    if kdim is None:
        W = attention.in_proj_weight.chunk(3)
        found = decay.bias("in_proj_weight").chunk(3)
    else:
        W = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
        found = [decay.bias(name) for name in decay.means]
    for ours, x, w, b in zip(
        found, (q, k, k), W, attention.in_proj_bias.chunk(3), strict=True
    ):
        torch.testing.assert_close(ours, b + w @ x.flatten(0, 1).mean(0))
    assert decay.unseen == {
        "out_proj": "no call of its NonDynamicallyQuantizableLinear shows its input"
    }


def test_mu_runs_as_that_of_batch_norm_and_in_training_mode_only():
    model = mlp(3, 4, 2)
    decay = EffectiveBiasDecay(model, strength=1.0, momentum=0.25)
    with pytest.raises(InputError, match="expected a batch before the penalty"):
        decay()
    one, two = (torch.randn(8, 3, generator=seeded(i)) for i in range(2))
    model(one)
    model.eval()(two)
    assert torch.equal(decay.means["0"], one.mean(0))
    model.train()(two)
    torch.testing.assert_close(
        decay.means["0"], 0.75 * one.mean(0) + 0.25 * two.mean(0)
    )
    assert not decay.means["2"].requires_grad


def test_it_can_be_saved_closed_and_copied():
    model = mlp(3, 4, 2)
    with EffectiveBiasDecay(model, strength=1.0) as decay:
        model(torch.ones(2, 3))
        assert isinstance(pickle.loads(pickle.dumps(copy.deepcopy(model))), nn.Module)
    assert not model[0]._forward_pre_hooks
    other = EffectiveBiasDecay(copy.deepcopy(model), strength=1.0)
    other.load_state_dict(decay.state_dict())
    assert torch.equal(other(), decay())
    with pytest.raises(InputError, match="got one of 7"):
        other.load_state_dict({"7": torch.zeros(3)})


def test_what_it_cannot_measure_is_said():
    model = nn.ModuleDict({
        "head": nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
        "lstm": nn.LSTM(2, 3),
        "turned": nn.ConvTranspose1d(2, 3, 3),
        "table": nn.Embedding(3, 2),
        "norm": nn.LayerNorm(2),
    })
    decay = EffectiveBiasDecay(model, strength=1.0)
    assert set(decay.unseen) == {"lstm.weight_ih_l0", "lstm.weight_hh_l0", "turned"}
    z = model["head"](torch.ones(4, 3))
    torch.testing.assert_close(decay(), z[0].square().sum())
    with pytest.raises(InputError, match="got none that can be measured"):
        EffectiveBiasDecay(nn.LSTM(2, 2), strength=1.0)
    with pytest.raises(InputError, match="momentum above 0"):
        EffectiveBiasDecay(model, strength=1.0, momentum=0.0)


def test_low_precision():
    model = nn.Linear(4, 2).bfloat16()
    decay = EffectiveBiasDecay(model, strength=1.0)
    model(torch.ones(8, 4).bfloat16())
    assert decay.means[next(iter(decay.means))].dtype == torch.float32
    decay().backward()
    assert model.bias.grad.dtype == torch.bfloat16


def test_an_empty_batch_and_one_that_overflowed_leave_mu():
    model = nn.Linear(4, 2)
    decay = EffectiveBiasDecay(model, strength=1.0)
    for x in (torch.ones(8, 4), torch.ones(0, 4), torch.full((8, 4), torch.inf)):
        model(x)
    assert decay.means["weight"].tolist() == [1.0] * 4
