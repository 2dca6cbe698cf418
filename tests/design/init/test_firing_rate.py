import pytest
import torch
from torch import nn

from nets import mlp, seeded
from plumbob.design.init.firing_rate import firing_rate_
from plumbob.errors import InputError


def rates(model, x, layer):
    with torch.no_grad():
        z = model[: layer + 1](x)
    return (z > 0).double().transpose(0, 1).flatten(1).mean(1)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.9])
def test_every_unit_of_every_layer_of_an_mlp(rate):
    model = mlp(20, 64, 64, 32, 3)
    head = model[6].bias.detach().clone()
    x = 2 + torch.rand(1000, 20, generator=seeded()) ** 3  # skewed
    done = firing_rate_(model, x, rate=rate)
    for layer in (0, 2, 4):
        assert (rates(model, x, layer) - rate).abs().max() <= 1e-3
    assert done["6"] == "left: the output: its bias has schemes of its own"
    assert torch.equal(model[6].bias, head)


def test_over_batches_of_a_loader_too():
    model = mlp(20, 64, 3)
    x = torch.randn(900, 20, generator=seeded())
    firing_rate_(model, list(x.split(300)), rate=0.1)
    assert (rates(model, x, 0) - 0.1).abs().max() <= 1 / 900


def test_a_conv_over_places_and_a_norm_in_between():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 3 * 3, 4),
    )
    x = torch.rand(64, 3, 8, 8, generator=seeded())
    state = {n: b.clone() for n, b in model.named_buffers()}
    done = firing_rate_(model, x, rate=0.2)
    # 10,000 of the values, or a third of that, are looked at
    assert (rates(model, x, 0) - 0.2).abs().max() <= 4 * (0.16 / 3333) ** 0.5
    assert (rates(model, x, 3) - 0.2).abs().max() <= 4 * (0.16 / 3333) ** 0.5
    assert done["2"] == "left: it has no bias"
    fresh = dict(model.named_buffers())
    assert int(state["3.num_batches_tracked"]) == 0
    assert fresh["3.running_mean"].shape == state["3.running_mean"].shape


def test_nothing_but_biases_changes():
    model = mlp(20, 64, 3).train()
    model.insert(2, nn.Dropout(0.5))
    model.insert(1, nn.BatchNorm1d(64))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    random = torch.get_rng_state()
    firing_rate_(model, torch.randn(500, 20, generator=seeded()), rate=0.2)
    after = model.state_dict()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert changed == {"1.bias"}
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_by_the_normal_law():
    model = mlp(200, 32, 3)
    x = torch.randn(2000, 200, generator=seeded())
    firing_rate_(model, x, rate=0.1, by="normal")
    z = model[0](x).detach().double()
    aim = z.std(0, correction=0) * -1.2815515655
    torch.testing.assert_close(z.mean(0), aim, atol=1e-5, rtol=0)
    assert (rates(model, x, 0) - 0.1).abs().max() < 0.03


def test_sites_by_name_and_what_is_left():
    model = mlp(20, 16, 8, 4, 3, activation=nn.Tanh)
    model[4].bias.requires_grad_(False)
    x = torch.randn(400, 20, generator=seeded())
    every = firing_rate_(model, x)
    assert every["0"] == "left: tanh follows, which is never off"
    assert every["4"] == "left: frozen (requires_grad=False)"
    named = firing_rate_(model, x, sites=["0", "6"], rate=0.25)
    assert set(named) == {"0", "6"}
    assert (rates(model, x, 6) - 0.25).abs().max() <= 1 / 400
    with pytest.raises(InputError, match="'fc', which fits none of 0, 2, 4, 6"):
        firing_rate_(model, x, sites="fc")


def test_low_precision():
    model = mlp(20, 64, 3).bfloat16()
    x = torch.randn(500, 20, generator=seeded()).bfloat16()
    firing_rate_(model, x, rate=0.2)
    assert (rates(model, x, 0) - 0.2).abs().max() < 0.02


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rate": 0.0}, "between 0 and 1, got 0"),
        ({"by": "normla"}, "Did you mean 'normal'"),
        ({"rate": 0.001}, "at least 1000 values of 0 .* got 100; pass more"),
    ],
)
def test_what_is_refused_leaves_the_model_as_it_was(given, said):
    model = mlp(4, 8, 2)
    before = model[0].bias.detach().clone()
    with pytest.raises(InputError, match=said):
        firing_rate_(model, torch.randn(100, 4), **given)
    assert torch.equal(model[0].bias, before)


def test_a_failure_half_way_puts_back_what_was_set():
    model = mlp(4, 8, 8, 2)
    model[2].weight.data[0, 0] = torch.nan
    before = model[0].bias.detach().clone()
    with pytest.raises(InputError, match="finite values from 2"):
        firing_rate_(model, torch.randn(100, 4, generator=seeded()))
    assert torch.equal(model[0].bias, before)


class Encoder(nn.Module):
    """Its first map reaches the output by a residual sum, and feeds another map."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        h = torch.relu(self.stem(x))
        return h + self.fc(h)


def test_a_map_is_no_output_where_others_read_it():
    done = firing_rate_(Encoder(), torch.randn(100, 6, generator=seeded()), rate=0.3)
    assert done["stem"].endswith("fires on 0.3 to 0.3 of the values")
    assert done["fc"] == "left: the output: its bias has schemes of its own"


class Twice(nn.Module):
    """One map that reads its own result."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.b = nn.Linear(6, 2)

    def forward(self, x):
        return self.b(torch.relu(self.a(torch.relu(self.a(x)))))


def test_a_module_that_is_used_twice_is_set_until_it_comes_to_rest():
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(500, 6, generator=seeded())
    firing_rate_(model, x, rate=0.3)
    with torch.no_grad():
        first = model.a(x)
        both = torch.cat([first, model.a(torch.relu(first))])
    assert ((both > 0).double().mean(0) - 0.3).abs().max() < 0.02  # 0.2 after one round


def test_a_weight_that_is_computed_is_said_to_be_left():
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 8))
    model = nn.Sequential(normed, nn.ReLU(), nn.Linear(8, 2))
    done = firing_rate_(model, torch.randn(50, 4, generator=seeded()))
    assert done["0"] == "left: its weight is computed from other parameters"
