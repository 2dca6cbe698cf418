import pytest
import torch
from torch import nn

from netting import mlp, seeded
from plumbob.survey.batches import batches
from plumbob.survey.breaks import first_break
from plumbob.survey.measure import measure


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def broken(function, *, x=None, loss=None, y=None):
    """Return the break of a net in which module 1 does something to z."""
    model = mlp(4, 8, 2)
    model.insert(1, Does(function))
    x = torch.randn(16, 4, generator=seeded()) if x is None else x
    batch = next(batches(model, x, targets=y, loss=loss))
    return first_break(model, batch, loss)


@pytest.mark.parametrize(
    ("function", "operation", "cause"),
    [
        (lambda z: z.log(), "log", "log-of-negative"),
        (lambda z: -(0 * z).log(), "log", "log-of-zero"),
        (lambda z: z.sqrt(), "sqrt", "root-of-negative"),
        (lambda z: z**0.5, "sqrt|pow", "root-of-negative"),
        (lambda z: z / (0 * z), "div", "division-by-zero"),
        (lambda z: (0 * z) / (0 * z), "div", "zero-by-zero"),
        (lambda z: (100 * z).exp(), "exp", "exponential"),
        (lambda z: z * 1e30 * 1e30, "mul", "overflow"),
        (lambda z: (z * 1e6).half().float(), "_to_copy", "overflow"),
        (lambda z: z + z[:0].mean(), "mean", "nothing"),
        pytest.param(
            lambda z: z + z[0, :1].std(),
            "std",
            "one-value",
            marks=pytest.mark.filterwarnings("ignore:std..:UserWarning"),
        ),
        (lambda z: (2 + z.abs()).acos(), "acos", "outside-domain"),
        (
            lambda z: z.masked_fill(torch.ones(8) > 0, -torch.inf).softmax(-1),
            "_softmax",
            "masked-row",
        ),
        (lambda z: z.log_(), "log", "log-of-negative"),
    ],
)
def test_causes(function, operation, cause):
    found = broken(function)
    assert (found.cause, found.place) == (cause, "1")
    assert found.operation in operation.split("|")
    assert found.reaches == "output"


def test_the_numbers():
    x = torch.ones(3, 4)
    x[1] = -2
    model = nn.Sequential(nn.Identity(), Does(torch.log))
    model.insert(0, nn.Linear(4, 4))
    model[0].weight.data, model[0].bias.data = torch.eye(4), torch.zeros(4)
    found = first_break(model, next(batches(model, x)), None)
    assert (found.values, found.nans, found.of) == (4, 4, 12)
    assert (found.low, found.high) == (-2, 1)
    assert found.place == "2"
    assert found.limit == torch.finfo(torch.float32).max


def test_the_first_of_many():
    found = broken(lambda z: (z.log().exp() * 0).sqrt())
    assert found.operation == "log"


def test_masks_are_meant():
    keep = torch.tril(torch.ones(8, 8)) > 0

    def attend(z):
        scores = z[:, :, None] * z[:, None, :]
        masks = torch.full((8, 8), -torch.inf).triu(1)
        return ((scores + masks).softmax(-1) @ z[..., None])[..., 0] + scores[
            ..., 0
        ].masked_fill(~keep[0], -torch.inf).relu()

    assert broken(attend) is None
    assert broken(torch.relu) is None


def test_the_input_and_the_weights():
    x = torch.randn(16, 4, generator=seeded())
    x[3, 2] = torch.nan
    found = broken(torch.relu, x=x)
    assert (found.cause, found.values, found.of) == ("input", 1, 64)
    model = mlp(4, 8, 2)
    model[2].weight.data[0, 0] = torch.inf
    found = first_break(model, next(batches(model, torch.ones(2, 4))), None)
    assert (found.cause, found.parameter) == ("weight", "2.weight")


def test_the_loss_and_the_targets():
    def loss(output, target):
        return (output.softmax(-1)[:, 0] * 0).log().mean() + target.mean()

    found = broken(torch.relu, loss=loss, y=torch.zeros(16))
    assert (found.cause, found.place, found.reaches) == ("log-of-zero", None, "loss")
    found = broken(torch.relu, loss=nn.MSELoss(), y=torch.full((16, 2), torch.nan))
    assert (found.cause, found.reaches) == ("target", "loss")


def test_half_precision_overflows():
    model = mlp(4, 8, 2).half()
    model[0].weight.data.fill_(2e4)
    x = torch.ones(2, 4).half()
    found = first_break(model, next(batches(model, x)), None)
    assert (found.cause, found.parameter) == ("overflow", "0.weight")
    assert (found.dtype, found.limit) == ("float16", 65504)


def test_what_no_output_shows_is_inside():
    model = mlp(4, 8, 2)
    model.insert(1, Does(lambda z: z.masked_fill(z < 0, 0).log().clamp(-1, 1)))
    survey = measure(model, torch.randn(16, 4, generator=seeded()))
    assert survey.first_break is None  # all is finite at every map and at the end
    assert broken(lambda z: z.abs().mul(1e38).mul(10).clamp(max=1)).reaches == "inside"


def test_measuring_looks_only_where_something_is_broken(monkeypatch):
    from plumbob.survey import measure as home

    called = []
    monkeypatch.setattr(home, "first_break", lambda *_: called.append(1))
    x = torch.randn(16, 4, generator=seeded())
    measure(mlp(4, 8, 2), x)
    assert not called
    model = mlp(4, 8, 2)
    model.insert(1, Does(torch.log))
    survey = measure(model, [x.abs() * 0 + 1, x])
    assert called
    assert "the origin of what is not finite" in survey.unseen


def test_the_batch_that_broke_is_run_again():
    model = nn.Sequential(Does(torch.sqrt), nn.Linear(4, 2))
    x = torch.ones(8, 4)
    survey = measure(model, [x, -x, x])
    assert survey.first_break.cause == "root-of-negative"
    assert survey.first_break.place == "0"
