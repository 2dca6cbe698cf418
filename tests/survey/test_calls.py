"""Parameters that are read outside the calls of their modules, by run and by graph."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nets import Uses, mlp
from plumbob.survey.batches import batches
from plumbob.survey.calls import strays
from plumbob.survey.graph import export
from plumbob.survey.measure import measure
from plumbob.survey.probe import probe
from plumbob.survey.trace import module_sites

X = torch.ones(4, 3)
BOTH = {"first.weight", "first.bias"}


def uncalled(model, x=X):
    readings = measure(model, x).readings
    return {name for name, reading in readings.items() if not reading.called}


@pytest.mark.parametrize(
    ("use", "found"),
    [
        ("", set()),
        ("linear", BOTH),
        ("forward", BOTH),
        ("bias", {"first.bias"}),
        ("weight", {"first.weight"}),
    ],
)
def test_reads_besides_the_call_are_found(use, found):
    model = Uses(mlp(3, 5, 2), use)
    assert strays(model, export(model, (X,), {}, training=True)) == found
    probed = probe(model, batches(model, X), module_sites(model))
    assert {n for n, r in probed.readings.items() if r.called} == (
        {"rest.2"} if found else {"first", "rest.2"}
    )


def test_a_mode_that_is_not_run_is_looked_at_too():
    for training in (True, False):
        assert uncalled(Uses(mlp(3, 5, 2), "mode").train(training)) == {"first"}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.c, self.b.weight = self.a, self.a.weight

    def forward(self, x):
        return self.b(self.c(self.a(self.a(x))))


class Catches(nn.Module):
    """Goes on after a call that failed."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, x):
        try:
            return self.a(x)
        except RuntimeError:
            return self.b(x)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 2)

    def forward(self, x):
        return checkpoint(self.a, x, use_reentrant=False)


@pytest.mark.parametrize(
    "model",
    [Tied(), Catches(), Checkpointed(), nn.LSTM(3, 2, 2), nn.Linear(3, 2)],
    ids=lambda model: type(model).__name__,
)
def test_calls_are_calls(model):
    assert not uncalled(model)


def test_attention_does_not_call_its_out_proj():
    model = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    assert uncalled(model, torch.ones(2, 3, 4)) == {"self_attn.out_proj"}


def test_autocast_reads_a_copy_that_it_made_in_the_call():
    model = Uses(mlp(3, 5, 2), "weight")

    class Cast(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = model

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.inside(x)

    assert uncalled(Cast()) == {"inside.first"}


def test_no_hook_stays():
    hooks = nn.modules.module._global_forward_pre_hooks
    after = nn.modules.module._global_forward_hooks
    before = len(hooks), len(after)
    measure(mlp(3, 5, 2), X)
    with pytest.raises(RuntimeError):
        mlp(4, 2)(X)
    assert (len(hooks), len(after)) == before
