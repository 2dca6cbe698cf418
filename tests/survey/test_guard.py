import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from plumbob.survey.guard import SWITCHES, or_as_before, untouched


class Untidy(nn.Module):
    """Leaves traces everywhere when it runs."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.fc.weight
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("ids", torch.arange(3).expand(2, 3))
        self.calls, self.seen, self.cache = 0, [], torch.zeros(2)

    def forward(self, x):
        self.calls += 1
        self.seen.append(x)
        self.cache.add_(1)
        self.new = x
        self.fc.weight.data.mul_(2)
        self.fc.bias.data = torch.ones(5)
        self.fc.weight.grad = torch.ones(3, 3)
        self.tied.bias.grad.zero_()
        self.tied.bias.requires_grad_(False)
        self.norm(x)
        self.norm = nn.Identity()
        self.fc.eval()
        self.fc.register_forward_hook(print)
        self.fc.weight.register_hook(print)
        self.register_buffer("late", torch.zeros(1))
        torch.rand(1), random.random(), np.random.rand()
        torch.set_grad_enabled(False)
        torch.backends.mha.set_fastpath_enabled(False)
        torch.backends.mkldnn.enabled = False
        torch.use_deterministic_algorithms(True)
        raise ArithmeticError("after all that")


def test_all_is_as_before_after_an_error():
    model = Untidy()
    model.tied.bias.grad = gradient = torch.full((3,), 2.0)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    modules = list(model.modules())
    switches = [read() for read, _ in SWITCHES]
    rng = np.random.get_state()[1].copy(), torch.get_rng_state()
    versions = [p._version for p in parameters.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ArithmeticError), untouched(model):
            model(torch.randn(4, 3))
    assert list(model.state_dict()) == list(state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name])
    for (name, p), version in zip(model.named_parameters(), versions, strict=True):
        assert p is parameters[name]
        assert p.requires_grad
        assert p._version == version
    assert list(model.modules()) == modules
    assert all(m.training for m in modules)
    assert model.fc.weight.grad is None
    assert model.tied.bias.grad is gradient
    assert gradient.tolist() == [2, 2, 2]
    assert not model.fc._forward_hooks
    assert not model.fc.weight._backward_hooks
    assert (model.calls, model.seen, model.cache.tolist()) == (0, [], [0, 0])
    assert not hasattr(model, "new")
    assert [read() for read, _ in SWITCHES] == switches
    assert (np.random.get_state()[1] == rng[0]).all()
    assert torch.equal(torch.get_rng_state(), rng[1])


def test_nan_and_negative_zero_are_kept():
    model = nn.Linear(2, 1)
    model.weight.data = torch.tensor([[float("nan"), -0.0]])
    with untouched(model):
        model.weight.data.zero_()
    assert model.weight[0, 0].isnan()
    assert model.weight[0, 1].signbit()


def test_pythons_generator_is_put_back(monkeypatch):
    # The type checker of these tests draws from it too, so its state is a fake here.
    put = []
    monkeypatch.setattr(random, "getstate", lambda: "before")
    monkeypatch.setattr(random, "setstate", put.append)
    with untouched(nn.Linear(1, 1)):
        pass
    assert put == ["before"]


def test_a_module_is_put_back_only_on_failure():
    layer = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}

    def change(*, fails):
        with or_as_before(layer):
            layer.weight.data.zero_()
            layer.bias = None
            layer.register_buffer("new", torch.zeros(1))
            if fails:
                raise KeyError

    with pytest.raises(KeyError):
        change(fails=True)
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
    change(fails=False)
    assert list(layer.state_dict()) == ["weight", "new"]
