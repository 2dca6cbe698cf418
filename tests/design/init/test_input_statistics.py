import copy
import pickle

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from nets import mlp, seeded
from plumbob.design.init.input_statistics import fold_input_statistics_
from plumbob.errors import InputError

MEAN = torch.tensor([124.0, 116.0, 104.0, 90.0], dtype=torch.float64)
STD = torch.tensor([58.0, 57.0, 50.0, 61.0], dtype=torch.float64)


class First(nn.Module):
    """The last state of a recurrent layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(2 * 5, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


def conv(*args, **options):
    return nn.Sequential(nn.Conv2d(4, 6, *args, **options), nn.ReLU(), nn.AvgPool2d(2))


NETS = {
    "mlp": (lambda: mlp(4, 8, 2, activation=nn.Tanh), (16, 4)),
    "tokens": (lambda: mlp(4, 8, 2, activation=nn.GELU), (4, 7, 4)),
    "turned": (lambda: nn.Sequential(Conv1D(8, 4), nn.GELU()), (4, 7, 4)),
    "flat": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), (8, 4, 3, 3)),
    "plain": (lambda: conv(3), (2, 4, 9, 8)),
    "padded": (lambda: conv(3, padding=1), (2, 4, 9, 8)),
    "grouped": (lambda: conv(3, padding=2, groups=2, bias=False), (2, 4, 9, 8)),
    "dilated": (lambda: conv(3, padding=2, dilation=2, stride=2), (2, 4, 9, 8)),
    "same": (lambda: conv((2, 3), padding="same", dilation=(2, 1)), (2, 4, 9, 8)),
    "reflect": (lambda: conv(3, padding=1, padding_mode="reflect"), (2, 4, 9, 8)),
    "circular": (lambda: conv(3, padding=1, padding_mode="circular"), (2, 4, 9, 8)),
    "1d": (lambda: nn.Sequential(nn.Conv1d(4, 6, 3, padding=1)), (3, 4, 9)),
    "3d": (lambda: nn.Sequential(nn.Conv3d(4, 6, 3, padding=1)), (1, 4, 5, 6, 3)),
    "resnet": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
        ),
        (2, 4, 9, 8),
    ),
    "lstm": (
        lambda: First(nn.LSTM(4, 5, bidirectional=True, batch_first=True)),
        (3, 7, 4),
    ),
}


def along(shape, name):
    axis = 1 if len(shape) > 3 or name == "1d" else len(shape) - 1
    view = [-1 if i == axis else 1 for i in range(1, len(shape))]
    return MEAN.view(view), STD.view(view)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even:UserWarning")
@pytest.mark.parametrize(
    ("name", "training"), [*((name, True) for name in NETS), ("resnet", False)]
)
def test_raw_inputs_give_what_standardised_ones_gave(name, training):
    make, shape = NETS[name]
    model = make().double().train(training)
    x = torch.randint(256, shape, generator=seeded()).double()
    mean, std = along(shape, name)
    before = copy.deepcopy(model)((x - mean) / std)
    done = fold_input_statistics_(model, x, mean=MEAN, std=STD)
    after = copy.deepcopy(model)(x)
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-12)
    assert model.training == training
    padded = name in {"padded", "grouped", "dilated", "same", "1d", "3d", "resnet"}
    assert any("padded with the mean" in what for what in done.values()) == padded
    assert any("a new bias" in w for w in done.values()) == (
        name in {"grouped", "resnet"}
    )
    if name == "lstm":
        assert list(done) == ["layer.weight_ih_l0", "layer.weight_ih_l0_reverse"]


def test_the_padding_survives_copies_files_states_and_export():
    torch.manual_seed(0)
    model = conv(3, padding=1)
    x = torch.randint(256, (2, 4, 9, 8), generator=seeded()).float()
    fold_input_statistics_(model, x, mean=MEAN, std=STD)
    expected = model(x)
    assert "0.padding_mean" in model.state_dict()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(twin(x), expected)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), expected)
    torch.testing.assert_close(model[0](input=x), model[0](x))
    assert model.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(InputError, match="it has some already"):
        fold_input_statistics_(model.float(), x, mean=MEAN, std=STD)


def test_a_number_and_a_mean_of_zero():
    model = conv(3, padding=1).double()
    x = torch.rand(2, 4, 9, 8, generator=seeded()).double()
    before = model(x / 0.5)
    done = fold_input_statistics_(model, x, mean=0.0, std=0.5)
    torch.testing.assert_close(model(x), before)
    assert done["0"].startswith("W / std; outputs the same to")
    assert model[0].padding == (1, 1)


def test_one_mean_per_pixel_for_a_linear_layer_only():
    x = torch.rand(8, 4, 3, 3, generator=seeded()).double()
    mean = x.mean(0)
    flat = NETS["flat"][0]().double()
    before = flat(x - mean)
    fold_input_statistics_(flat, x, mean=mean)
    torch.testing.assert_close(flat(x), before)
    with pytest.raises(InputError, match="differ within one of its features"):
        fold_input_statistics_(conv(2).double(), x, mean=mean)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.fc(x)


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (Residual(), {}, "outputs would change by .* used elsewhere too"),
        (nn.Linear(4, 2).requires_grad_(False), {}, "frozen"),
        (nn.Linear(4, 2), {"std": torch.zeros(4)}, "every std above 0, got 0"),
        (nn.Linear(4, 2), {"mean": torch.zeros(5)}, "got 5 numbers, which fit 0"),
        (nn.Linear(4, 2), {"sites": ["wieght"]}, "got 'wieght'. Did you mean 'weight'"),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), {}, "fold .* into 0: "),
    ],
)
def test_what_is_refused_leaves_the_model_as_it_was(model, options, said):
    x = torch.rand(6, 4, generator=seeded())
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(InputError, match=said):
        fold_input_statistics_(model, x, **{"mean": 0.3, "std": 2.0} | options)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_a_transposed_convolution_is_refused():
    model = nn.Sequential(nn.ConvTranspose2d(4, 2, 3))
    with pytest.raises(InputError, match="get fewer taps"):
        fold_input_statistics_(model, torch.rand(2, 4, 5, 5), mean=MEAN, std=STD)


class Captioner(nn.Module):
    def __init__(self):
        super().__init__()
        self.see = nn.Linear(4, 3)
        self.read = nn.Embedding(5, 3)

    def forward(self, x, tokens):
        return self.see(x) + self.read(tokens)


def test_tables_that_read_tokens_are_no_part_of_it():
    model = Captioner().double()
    x, tokens = torch.rand(6, 4).double(), torch.arange(6) % 5
    before = model((x - 0.3) / 2, tokens)
    done = fold_input_statistics_(model, (x, tokens), mean=0.3, std=2.0)
    assert list(done) == ["see"]
    torch.testing.assert_close(model(x, tokens), before)
