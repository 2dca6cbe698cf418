import pytest
import torch
from torch import nn
from torch.nn.functional import linear
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm

from nets import seeded
from plumbob.errors import InputError
from plumbob.mending.fold_centring import fold_centring

X = torch.randn(6, 3, generator=seeded()) + 4


def test_the_new_map_is_the_closed_form():
    layer = nn.Linear(3, 2).double()
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    m = torch.tensor([1.0, 2.0, 3.0]).double()
    fold_centring(layer, site="", mean=m.tolist())
    torch.testing.assert_close(layer.bias.detach(), b + w @ m)
    x = X.double()
    torch.testing.assert_close(layer(x), linear(x, w, b))
    torch.testing.assert_close(layer(input=x), linear(x, w, b))
    assert torch.equal(layer.weight, w)


def test_a_network_before_training_keeps_b():
    layer = nn.Linear(3, 2)
    b = layer.bias.detach().clone()
    fold_centring(layer, site="", mean=[4.0] * 3, keep=False)
    assert torch.equal(layer.bias, b)
    torch.testing.assert_close(layer(X), linear(X - 4, layer.weight, b))


def test_padding_stands_for_zero_or_for_the_mean():
    conv = nn.Conv1d(1, 1, 3, padding=1)
    x = torch.full((1, 1, 5), 7.0)
    before = conv(x)
    kept, new = nn.Conv1d(1, 1, 3, padding=1), nn.Conv1d(1, 1, 3, padding=1)
    for other in (kept, new):
        other.load_state_dict(conv.state_dict())
    fold_centring(kept, site="", mean=[7.0])
    torch.testing.assert_close(kept(x), before)
    fold_centring(new, site="", mean=[7.0], keep=False)
    torch.testing.assert_close(new(x), conv.bias.expand(1, 1, 5))


def test_means_add_up():
    twice, once = nn.Linear(3, 2), nn.Linear(3, 2)
    once.load_state_dict(twice.state_dict())
    fold_centring(twice, site="", mean=[1.0, 2.0, 3.0])
    fold_centring(twice, site="", mean=[0.5, 0.5, 0.5])
    fold_centring(once, site="", mean=[1.5, 2.5, 3.5])
    torch.testing.assert_close(twice.state_dict(), once.state_dict())
    assert len(twice._forward_pre_hooks) == 1


def test_a_scale_divides_what_is_left_and_scales_multiply():
    layer = nn.Linear(3, 2)
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    first = {"mean": [1.0, 2.0, 3.0], "scale": [2.0, 4.0, 8.0]}
    fold_centring(layer, site="", **first, keep=False)
    x = (X - torch.tensor(first["mean"])) / torch.tensor(first["scale"])
    torch.testing.assert_close(layer(X), linear(x, w, b))
    fold_centring(layer, site="", mean=[0.5] * 3, keep=True)  # b takes W mean
    torch.testing.assert_close(layer(X), linear(x, w, b))
    fold_centring(layer, site="", mean=[-0.5] * 3, scale=[3.0] * 3, keep=False)
    torch.testing.assert_close(layer.input_scale, torch.tensor([6.0, 12.0, 24.0]))
    torch.testing.assert_close(layer.input_mean, torch.tensor(first["mean"]))
    assert len(layer._forward_pre_hooks) == 1


def test_a_new_model_is_prepared_with_zeros():
    trained, new = nn.Linear(3, 2), nn.Linear(3, 2)
    fold_centring(trained, site="", mean=[4.0] * 3)
    fold_centring(new, site="", mean=[0.0] * 3)
    new.load_state_dict(trained.state_dict())
    assert torch.equal(new(X), trained(X))


def test_the_mean_that_is_folded_is_the_mean_that_is_stored():
    layer = nn.Linear(3, 2).bfloat16()
    w, b = layer.weight.detach().clone(), layer.bias.detach().clone()
    fold_centring(layer, site="", mean=[1000.3] * 3)
    m = layer.input_mean
    assert m.dtype is torch.bfloat16
    assert m.tolist() == [1000.0] * 3
    expected = (b.double() + w.double() @ m.double()).bfloat16()
    assert torch.equal(layer.bias, expected)


def test_packed_sequences_are_centred():
    lstm = nn.LSTM(3, 2)
    x = nn.utils.rnn.pack_sequence([X[:4], X[4:]])
    before = lstm(x)[0].data
    fold_centring(lstm, site="weight_ih_l0", mean=[4.0] * 3)
    torch.testing.assert_close(lstm(x)[0].data, before)


# The checks of annotations, which run in tests only, keep a list that strict sees.
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.parametrize("strict", [True, False])
def test_the_result_exports(strict):
    model = nn.Sequential(nn.Conv1d(3, 2, 3, padding=1), nn.ReLU()).eval()
    x = X.view(2, 3, 3)
    before = model(x)
    fold_centring(model, site="0", mean=[4.0] * 3)
    program = torch.export.export(model, (x,), strict=strict)
    torch.testing.assert_close(program.module()(x), before)


def test_a_hook_that_cannot_be_set_leaves_the_layer(monkeypatch):
    model = nn.Sequential(nn.Conv1d(3, 2, 3, padding=1))

    def fails(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(nn.Module, "register_forward_pre_hook", fails)
    before = model(X.view(2, 3, 3))
    with pytest.raises(MemoryError):
        fold_centring(model, site="0", mean=[4.0] * 3)
    assert torch.equal(model(X.view(2, 3, 3)), before)
    assert list(model.state_dict()) == ["0.weight", "0.bias"]


class Own(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
        self.input_mean = 0


def wrapped():
    """As a model is in distributed training, without a process group."""
    model = nn.parallel.DistributedDataParallel.__new__(
        nn.parallel.DistributedDataParallel
    )
    nn.Module.__init__(model)
    model.module = nn.Linear(3, 2)
    return model


@pytest.mark.parametrize(
    ("model", "arguments", "reason"),
    [
        (nn.Linear(3, 2), {"site": "fc"}, "does not have"),
        (nn.Sequential(nn.Linear(3, 2)), {"site": "0[0:1]"}, "packed weight"),
        (nn.Linear(3, 2), {"site": "", "mean": [1.0]}, "expected 3 finite numbers"),
        (nn.Linear(3, 2), {"site": "", "mean": [0.0, 0.0, float("nan")]}, "finite"),
        (nn.Linear(3, 2).half(), {"site": "", "mean": [1e5] * 3}, "finite in torch.fl"),
        (nn.ConvTranspose1d(3, 2, 3), {"site": ""}, "ConvTranspose1d reads"),
        (nn.BatchNorm1d(3), {"site": ""}, "BatchNorm1d reads"),
        (nn.LSTM(3, 2, 2), {"site": "weight_hh_l0"}, "LSTM reads"),
        (nn.LSTM(3, 2, bias=False), {"site": ""}, "bias=False"),
        (nn.MultiheadAttention(3, 1), {"site": "out_proj"}, "MultiheadAttention"),
        (Own(), {"site": ""}, "input_mean"),
        (nn.Linear(3, 2), {"site": "", "scale": [2.0] * 3}, "keep=False"),
        (nn.Linear(3, 2), {"site": "", "scale": [0.0] * 3, "keep": False}, "above 0"),
        (nn.Linear(3, 2), {"site": "", "scale": [2.0], "keep": False}, "expected 3"),
        (nn.LazyLinear(2), {"site": ""}, "Uninitialized"),
        (nn.Linear(3, 2, device="meta"), {"site": ""}, "meta device"),
        (spectral_norm(nn.Linear(3, 2)), {"site": ""}, "computed from"),
        (weight_norm(nn.Linear(3, 2)), {"site": ""}, "computed from"),
        (wrapped(), {"site": "module"}, "DistributedDataParallel has taken it over"),
    ],
)
def test_what_it_refuses_and_why(model, arguments, reason):
    with pytest.raises(InputError, match=reason):
        fold_centring(model, **{"mean": [1.0] * 3, **arguments})


def test_padding_behind_the_mean_cannot_be_kept():
    conv = nn.Conv1d(3, 2, 3, padding=1)
    fold_centring(conv, site="", mean=[1.0] * 3, keep=False)
    with pytest.raises(InputError, match="keep=False"):
        fold_centring(conv, site="", mean=[1.0] * 3)


def test_a_new_bias_is_trained_with_its_weight():
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 1))
    groups = [
        {"params": model[0].parameters(), "lr": 0.5, "weight_decay": 0.1},
        {"params": model[1].parameters()},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    fold_centring(model, optimizer, site="0", mean=[1.0, 2.0, 3.0])
    new = optimizer.param_groups[-1]
    assert new["params"][0] is model[0].bias
    assert (new["lr"], new["weight_decay"]) == (0.5, 0.0)
