import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.trace import export, record
from tracing import feeds, operations, traced, where


class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.conv, self.head = nn.Conv1d(1, 3, 3), nn.Linear(6, 5)

    def forward(self, x):
        h = self.norm(self.a(x)).relu_()
        if h.mean() > -1:
            h = h + self.b(h)
        z = nn.functional.gelu(self.conv(h[:, None]))
        return {"logits": self.head(z.flatten(1)), "other": [h]}


@pytest.mark.parametrize("training", [True, False])
def test_data_dependent_model_is_recorded(capfd, training):
    model = Decides()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randn(4, 3)
    graph, found = traced(model, x, training=training)
    assert graph.on_this_path
    assert capfd.readouterr() == ("", "")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert list(found) == ["a", "norm", "b", "conv", "head"]
    assert (found["a"].norm, found["a"].activation) == ("batch-norm", "relu")
    assert feeds(found["a"]) == {"b": 1, "conv": None}
    assert found["b"].ends_residual
    assert (found["conv"].activation, feeds(found["conv"])) == ("gelu", {"head": 2})
    assert where(found, "is_output") == {"a", "norm", "b", "head"}


def test_recorded_graph_computes_the_model():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.a(x).relu_().mul_(2)) + x[:, :1].expand(-1, 2)

    model, x = Writes(), torch.randn(5, 3)
    graph = record(model, (x,), {}, training=False)
    values = dict(model.named_parameters())
    given = [
        values[graph.parameters[n.name]] if n.name in graph.parameters else x
        for n in graph.module.graph.nodes
        if n.op == "placeholder"
    ]
    (result,) = torch.fx.Interpreter(graph.module).run(*given)
    torch.testing.assert_close(result, model(x))


def test_partial_write_is_not_mistaken_for_the_old_value():
    class Partial(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, x):
            h = self.a(x)
            h[:, 0] = 0
            return h

    graph = record(Partial(), (torch.randn(5, 3),), {}, training=False)
    (last,) = graph.outputs
    assert last == "written_through"


def test_the_users_batch_is_not_written():
    x = -torch.ones(2, 3)
    for trace in (export, record):
        trace(
            nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1)),
            (x,),
            {},
            training=True,
        )
        assert (x == -1).all()


def test_outputs_of_every_kind():
    @dataclass
    class Result:
        logits: torch.Tensor
        cache: object = None

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 2)

        def forward(self, x, *, scale):
            z = self.a(x * scale)
            return Result(z, object()), {"more": [z.exp()]}, None, 3

    graph, found = traced(Net(), torch.randn(4, 3), scale=torch.ones(3))
    assert not graph.on_this_path
    assert len(graph.outputs) == len(graph.inputs) == 2
    assert found["a"].is_output


def test_modes():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    x = torch.randn(5, 3)
    train, still = (
        f"aten._native_batch_norm_legit_{mode}.default"
        for mode in ("functional", "no_training")
    )

    def norms(training):
        found = operations(export(model, (x,), {}, training=training))
        return [name for name in found if "batch_norm" in name]

    model.train()
    model[1].eval()
    assert norms(True) == [still, train]
    assert norms(False) == [still, still]
    assert [m.training for m in model] == [True, False, True]
    model.eval()
    model[2].requires_grad_(False)
    assert norms(True) == [train, still]
    assert not any(m.training for m in model.modules())


def test_traces_leave_nothing_behind():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout())
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()  # beartype draws from Python's
    for trace in (export, record):
        torch.manual_seed(1)
        np.random.seed(1)
        trace(model, (torch.ones(5, 3),), {}, training=True)
        assert (torch.rand(1), np.random.rand()) == expected
        with pytest.raises(InputError, match="mat1 and mat2"):
            trace(model, (torch.ones(5, 2),), {}, training=False)
        assert all(m.training for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_user_sees_no_warning():
    code = (
        "import torch; from plumbob.survey.trace import export;"
        "export(torch.nn.LSTM(2, 3), (torch.ones(4, 1, 2),), {}, training=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
