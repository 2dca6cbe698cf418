import sys

import pytest
import torch
from torch import nn

from plumbob import address
from plumbob.errors import AddressError

NET = """
import torch
from torch import nn
import beside

MODEL = nn.Linear(2, 1)
NUMBER = 3

def build(): return nn.Linear(beside.WIDTH, 1)
def wide(width): return nn.Linear(width, 1)
def broken(): raise ValueError("no\\n luck.")
def later():
    import beside_too
    return nn.Linear(beside_too.WIDTH, 1)

class Model(nn.Linear):
    def __init__(self): super().__init__(5, 1)

class Space:
    class inner:
        build = staticmethod(build)

def loader(): return [torch.zeros(1, 2)]
def loss(outputs, targets): return (outputs - targets).square().mean()
def make_loss(reduction="sum"): return nn.MSELoss(reduction=reduction)

def by_model(model): return torch.optim.SGD(model.parameters(), lr=0.1)
def by_params(params): return torch.optim.SGD(params, lr=0.2)
def by_type(x: "Iterable[nn.Parameter]"): return torch.optim.SGD(x, lr=0.3)
def by_nothing(): return None
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.4)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "target_net.py").write_text(NET)
    (tmp_path / "beside.py").write_text("WIDTH = 7")
    (tmp_path / "beside_too.py").write_text("WIDTH = 8")
    (tmp_path / "sick.py").write_text("import nowhere_to_be_found")
    (tmp_path / "script.py").write_text("import sys\nsys.exit(3)")
    (tmp_path / "typo.py").write_text("def f(:")
    (tmp_path / "queue.py").write_text("NAME = 'ours'")
    (tmp_path / "fine_package").mkdir()
    (tmp_path / "fine_package" / "__init__.py").write_text("")
    (tmp_path / "fine_package" / "net.py").write_text("value = [1]")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_models(folder):
    path = list(sys.path)
    assert address.model("target_net.py:build").in_features == 7
    assert address.model("target_net.py:later").in_features == 8
    assert address.model(f"{folder}/target_net.py:Model").in_features == 5
    assert address.model("target_net:Space.inner.build").in_features == 7
    assert address.model("target_net.py:MODEL") is address.find("target_net:MODEL")
    assert sys.path == path


def test_data(folder):
    assert address.data("target_net.py:loader")[0].shape == (1, 2)
    assert address.data("fine_package.net:value") == [1]
    assert address.data("queue.py:NAME") == "ours"
    assert address.data("queue.py:NAME") == "ours"  # the library's queue stays


def test_losses(folder):
    assert address.loss("target_net.py:loss") is address.find("target_net.py:loss")
    assert address.loss("target_net.py:make_loss").reduction == "sum"
    assert isinstance(address.loss("torch.nn:MSELoss"), nn.MSELoss)
    mse = nn.functional.mse_loss
    assert address.loss("torch.nn.functional:mse_loss") is mse


@pytest.mark.parametrize(
    ("name", "lr"),
    [("by_model", 0.1), ("by_params", 0.2), ("by_type", 0.3), ("OPTIMIZER", 0.4)],
)
def test_optimizers(folder, name, lr):
    found = address.optimizer(f"target_net.py:{name}", nn.Linear(2, 1))
    assert found.param_groups[0]["lr"] == lr


def test_an_optimizer_class(folder):
    found = address.optimizer("torch.optim:SGD", nn.Linear(2, 1))
    assert isinstance(found, torch.optim.SGD)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target_net.py", "Expected an address such as net.py:build"),
        (
            "target_nat.py:build",
            "no file 'target_nat.py'. Did you mean 'target_net.py'?",
        ),
        ("nowhere.net:build", "No module named 'nowhere'"),
        ("fine_package.nat:build", "No module named 'fine_package.nat'"),
        ("sick.py:build", "raised ModuleNotFoundError: No module named 'nowhere_to_"),
        ("sick:build", "raised ModuleNotFoundError: No module named 'nowhere_to_"),
        ("script.py:build", "raised SystemExit: 3"),
        ("typo.py:f", "raised SyntaxError"),
        ("target_net.py:biuld", "has no 'biuld'. Did you mean 'build'?"),
        ("target_net.py:Space.inner.x", "'target_net.py.Space.inner' has no 'x'."),
        ("target_net.py:wide", "without arguments, but it is wide(width)"),
        ("target_net.py:broken", "raised ValueError: no luck when it was called"),
        ("target_net.py:NUMBER", "Expected a torch.nn.Module"),
    ],
)
def test_addresses_that_lead_nowhere(folder, text, said):
    with pytest.raises(AddressError) as caught:
        address.model(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_original_error_is_kept(folder):
    with pytest.raises(AddressError) as caught:
        address.model("target_net.py:broken")
    assert isinstance(caught.value.__cause__, ValueError)


def test_other_roles_that_do_not_fit(folder):
    with pytest.raises(AddressError, match="Expected a loss"):
        address.loss("target_net.py:NUMBER")
    with pytest.raises(AddressError, match="take one argument"):
        address.optimizer("target_net.py:by_nothing", nn.Linear(2, 1))
    with pytest.raises(AddressError, match=r"Expected a torch\.optim\.Optimizer"):
        address.optimizer("target_net.py:NUMBER", nn.Linear(2, 1))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("net.py:build", True),
        (r"C:\models\net.py:build", True),
        (r"C:\models\net.py", False),
        ("model.safetensors", False),
        ("a.b:c.d", True),
        ("a:1", False),
    ],
)
def test_what_has_the_form_of_an_address(text, is_one):
    assert address.is_address(text) is is_one
