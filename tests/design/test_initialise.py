"""A whole model is initialised by what follows each map."""

from math import exp, log

import pytest
import torch
from torch import nn

import healthy_transformers  # ruff: ignore[unused-import]
import plumbob
from healthy import FAMILIES, Encoder, Recurrent, Residual
from nets import seeded
from plumbob import InputError
from plumbob.design import initialise_


def rows(done):
    return {row.site: row for row in done.rows}


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def sd(weight):
    return float(weight.detach().double().square().mean().sqrt())


def stack(depth, width):
    torch.manual_seed(depth)
    maps = [m for _ in range(depth) for m in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*maps, nn.Linear(width, 10))


def ratio(model, seed, width):
    """Return |dL/dW| of the first over that of the last hidden layer, for one input."""
    x = torch.randn(1, width, generator=seeded(seed))
    nn.functional.cross_entropy(model(x), torch.tensor([seed % 10])).backward()
    return float(model[0].weight.grad.norm() / model[-3].weight.grad.norm())


def test_gradients_reach_the_first_of_thirty_relu_layers_with_he():
    """The geometric mean over 12 seeds; torch's default loses 6^-15."""
    logs = {"he": [], "torch": []}
    for seed in range(12):
        for scheme, found in logs.items():
            model = stack(30, 128)
            if scheme == "he":
                initialise_(model, scheme="he", seed=seed)
            found.append(log(ratio(model, seed, 128)))
    means = {scheme: exp(sum(found) / 12) for scheme, found in logs.items()}
    assert 0.5 < means["he"] < 2
    assert means["torch"] < 1e-3


@pytest.mark.parametrize(
    ("module", "factor"),
    [
        (nn.ReLU(), 2**0.5),
        (nn.LeakyReLU(0.3), (2 / 1.09) ** 0.5),
        (nn.PReLU(init=0.5), (2 / 1.25) ** 0.5),
        (nn.Tanh(), 1.5925),
        (nn.GELU(), 1.5335),
        (nn.SELU(), 1.0),
        (nn.Identity(), 1.0),
    ],
    ids=lambda v: type(v).__name__,
)
@pytest.mark.parametrize("traced", [True, False])
def test_the_gain_is_that_of_the_activation_that_follows(module, factor, traced):
    model = nn.Sequential(nn.Linear(256, 256), module, nn.Linear(256, 2))
    data = torch.randn(8, 256, generator=seeded()) if traced else None
    initialise_(model, data)
    assert sd(model[0].weight) * 16 == pytest.approx(factor, rel=0.02)
    assert not model[0].bias.any()


def test_the_slope_of_a_functional_leaky_relu_is_read_from_the_graph():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(256, 256), nn.Linear(256, 256)

        def forward(self, x):
            x = nn.functional.leaky_relu(self.a(x), 0.5)
            return nn.functional.leaky_relu(self.b(x), 0.9)

    model = Net()
    done = rows(initialise_(model, torch.randn(4, 256, generator=seeded())))
    assert sd(model.a.weight) * 16 == pytest.approx((2 / 1.25) ** 0.5, rel=0.02)
    assert sd(model.b.weight) * 16 == pytest.approx((2 / 1.81) ** 0.5, rel=0.02)
    assert "slope 0.5" in done["a"].why
    unknown = rows(initialise_(Net()))
    assert "no data given" in unknown["a"].why


def test_gelu_is_told_to_have_no_gain_for_a_deep_stack():
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 2))
    why = rows(initialise_(model, torch.randn(4, 8, generator=seeded())))["0"].why
    assert "grows 1.14 times a layer" in why


def test_residual_ends_behind_a_norm_start_at_zero_where_asked():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), *[Residual(8) for _ in range(2)])
    for block in (model[1], model[2]):
        nn.init.ones_(block.bn2.weight)
    x = torch.randn(4, 1, 8, 8, generator=seeded())
    assert rows(initialise_(model, x))["1.bn2"].what == "left"
    done = rows(initialise_(model, x, scheme="zero-last"))
    assert done["1.bn2"].what == "scale zero"
    assert not model[1].bn2.weight.any()
    assert bool((model[1].bn1.weight == 1).all())
    assert done["1.bn1"].what == "left"
    assert "batch-norm follows" in done["1.conv1"].why


def test_packed_attention_and_residual_ends_of_a_transformer():
    model = Encoder(norm_first=True)
    done = rows(initialise_(model, torch.randn(4, 8, 8, generator=seeded())))
    name = "body.layers.0.self_attn.in_proj_weight"
    packed = model.get_parameter(name)
    assert "each of 3 parts" in done[name].what
    assert sd(packed) == pytest.approx((1 / 32) ** 0.5, rel=0.05)
    assert "one of 4 residual" in done["body.layers.0.linear2"].why
    end = model.body.layers[0].linear2.weight
    assert sd(end) == pytest.approx(0.5 / 64**0.5, rel=0.06)
    assert done["place"].what == "left"


@pytest.mark.parametrize(("cell", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("traced", [True, False])
def test_recurrent_matrices_are_orthogonal_gate_by_gate(cell, gates, traced):
    model = Recurrent(cell)
    initialise_(model, torch.randn(4, 8, 8, generator=seeded()) if traced else None)
    for W in model.rnn.weight_hh_l1.detach().chunk(gates):
        torch.testing.assert_close(W @ W.T, torch.eye(32), atol=1e-5, rtol=0)
    if cell is nn.LSTM:
        forget = (model.rnn.bias_ih_l0 + model.rnn.bias_hh_l0).view(4, 32)
        assert forget.mean(1).tolist() == [0, 1, 0, 0]


def test_tied_weights_are_written_once():
    training = FAMILIES["gpt2"](0)
    model = training.model
    done = rows(initialise_(model, training.batches))
    assert done["lm_head"].why == "its weight is that of transformer.wte"
    assert model.lm_head.weight is model.transformer.wte.weight
    assert sd(model.lm_head.weight) == pytest.approx(32**-0.5, rel=0.05)
    end = model.transformer.h[0].mlp.c_proj.weight  # (in, out)
    assert sd(end) == pytest.approx(0.5 / 128**0.5, rel=0.05)


def test_frozen_and_computed_weights_are_left_and_listed():
    model = nn.Sequential(
        nn.Linear(4, 8),
        nn.ReLU(),
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
        nn.ReLU(),
        nn.Linear(8, 8),
    )
    model[0].requires_grad_(False)
    model[4].bias.requires_grad_(False)
    before = state(model)
    done = rows(initialise_(model, torch.randn(4, 4, generator=seeded())))
    changed = {name for name, p in state(model).items() if not p.equal(before[name])}
    assert changed == {"4.weight"}
    assert "frozen" in done["0"].why
    assert done["4"].what.endswith("b left (frozen)")
    assert done["2.parametrizations.weight.original1"].what == "left"


def test_every_parameter_has_a_row():
    for name in ("bert", "lstm", "transformer"):
        training = FAMILIES[name](0)
        done = rows(initialise_(training.model, training.batches, loss=training.loss))
        for parameter in dict(training.model.named_parameters()):
            owner = parameter.rpartition(".")[0]
            end = parameter.replace("bias", "weight")
            assert {parameter, owner, end} & done.keys(), parameter


def test_a_seed_decides_and_nothing_else():
    x = torch.randn(4, 16, generator=seeded())
    short, long = stack(1, 16), stack(3, 16)
    random = torch.get_rng_state()
    initialise_(short, x, seed=3)
    assert torch.equal(random, torch.get_rng_state())
    torch.manual_seed(5)
    initialise_(long, x, seed=3)
    assert torch.equal(short[0].weight, long[0].weight)
    first = state(long)
    initialise_(long, x, seed=3)
    assert same(first, state(long))
    initialise_(long, x, seed=4)
    assert not same(first, state(long))


def test_half_precision_holds_the_rounded_values():
    x = torch.randn(4, 16, generator=seeded())
    single, half = stack(2, 16), stack(2, 16).bfloat16()
    initialise_(single, x)
    initialise_(half, x.bfloat16())
    assert half[0].weight.dtype is torch.bfloat16
    assert torch.equal(half[2].weight, single[2].weight.bfloat16())


def test_the_model_is_as_before_where_it_fails():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(torch.sigmoid(self.a(x)))

    model = Broken()
    before = state(model)
    x = torch.randn(8, 4, generator=seeded())
    with pytest.raises(InputError, match=r"a .*edge of chaos"):
        initialise_(model, x, scheme="mean-field")
    assert same(before, state(model))


def test_mean_field_takes_the_edge_of_what_follows():
    model = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 2))
    done = rows(initialise_(model, scheme="mean-field"))
    assert sd(model[0].weight) * 16 == pytest.approx(1.76095**0.5, rel=0.02)
    assert sd(model[0].bias) == pytest.approx(0.05**0.5, rel=0.2)
    assert "q* 0.57" in done["0"].why
    assert not model[2].bias.any()


def test_a_scheme_of_ones_own():
    def ones(layer, *, generator):
        layer.write(torch.ones_like(layer.matrix()))
        return "ones"

    model = stack(1, 4)
    assert rows(initialise_(model, scheme=ones))["0"].what == "ones; b zero"
    assert bool((model[0].weight == 1).all())


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="Did you mean 'orthogonal'"):
        initialise_(stack(1, 4), scheme="ortogonal")
    with pytest.raises(InputError, match="data for the scheme 'lsuv'"):
        initialise_(stack(1, 4), scheme="lsuv")


def test_check_finds_nothing_wrong_with_the_result():
    model = nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
    )
    x = torch.randn(256, 16, generator=seeded())
    y = torch.randint(3, (256,), generator=seeded())
    loss = nn.CrossEntropyLoss()
    initialise_(model, x, targets=y, loss=loss)
    report = plumbob.check(model, x, targets=y, loss=loss, stage="init")
    assert [f.code for f in report.findings if f.severity > 1] == []


def test_nothing_to_set_to_zero_and_lazy_layers_are_refused():
    class Own(nn.Linear):
        pass

    with pytest.raises(InputError, match="found neither"):
        initialise_(Own(3, 3), scheme="zero-last")
    with pytest.raises(InputError, match="no shape yet"):
        initialise_(nn.Sequential(nn.LazyLinear(3)))


class Adapted(nn.Module):
    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features))
        self.B = nn.Parameter(torch.randn(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + x @ self.A.T @ self.B.T


@pytest.mark.parametrize("scheme", ["auto", "zero-last"])
def test_an_adapter_beside_a_frozen_map_starts_at_nothing(scheme):
    model = nn.Sequential(
        Adapted(nn.Linear(8, 16)), nn.ReLU(), Adapted(nn.Linear(16, 3))
    )
    x = torch.randn(32, 8, generator=seeded())
    done = rows(initialise_(model, x, scheme=scheme))
    assert "adapted" in done["0.B"].why
    assert not model[0].B.any()
    assert sd(model[0].A) == pytest.approx(8**-0.5, rel=0.5)
    base = nn.Sequential(model[0].base, nn.ReLU(), model[2].base)
    assert torch.equal(model(x), base(x))


class Mirror(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(10, 4)

    def forward(self, x):
        return torch.relu(self.map(x)) @ self.map.weight


def test_a_map_that_is_hidden_and_output_at_once_is_not_shrunk():
    x = torch.randn(256, 10, generator=seeded())
    model = Mirror()
    initialise_(model, x, targets=x, loss=nn.MSELoss())
    assert sd(model.map.weight) > 0.2


def test_parameters_of_computed_weights_are_told_as_such():
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    done = rows(initialise_(nn.Sequential(normed, nn.ReLU(), nn.Linear(3, 2))))
    for name in ("0.bias", "0.parametrizations.weight.original0"):
        assert "computed from other parameters" in done[name].why


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_script_module_is_refused():
    model = torch.jit.script(nn.Sequential(nn.Linear(4, 3)))
    with pytest.raises(InputError, match=r"before torch\.jit\.script"):
        initialise_(model)


def test_data_that_the_model_cannot_take_are_refused():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before = state(model)
    with pytest.raises(InputError, match=r"failed on .*float32\[5, 7\]"):
        initialise_(model, torch.randn(5, 7))
    assert same(before, state(model))


def test_any_whole_number_is_a_seed():
    models = [nn.Linear(4, 3) for _ in range(2)]
    for model in models:
        initialise_(model, seed=2**70)
    assert torch.equal(models[0].weight, models[1].weight)


def test_the_prior_of_an_output_beside_others():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 1)

        def forward(self, x):
            h = self.body(x).relu()
            return self.head(h)[:, 0], h

    model, y = Pair(), torch.tensor([1.0] + 19 * [0.0]).repeat(5)
    data = (torch.randn(100, 4, generator=seeded()), y)
    bce = nn.functional.binary_cross_entropy_with_logits
    initialise_(model, data, loss=lambda out, y: bce(out[0], y), scheme="zero-last")
    assert model.head.bias.item() == pytest.approx(log(0.05 / 0.95), abs=1e-5)
