import copy
import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForMaskedLM
from transformers.pytorch_utils import Conv1D

import plumbob
from plumbob import design
from plumbob.errors import InputError

G = torch.Generator().manual_seed(1)
Y = torch.zeros(1000)
Y[:10] = 1
X = torch.randn(1000, 4, generator=G) + 1
K = (torch.rand(1000, 3, generator=G) * torch.tensor([3.0, 2.0, 1.0])).argmax(1)
V = torch.randn(1000, 3, generator=G).exp()
DENSE = torch.randint(0, 3, (20, 4, 5), generator=G)
DENSE[0] = 255


class Net(nn.Module):
    """A head whose scores go through a function."""

    def __init__(self, after=lambda z: z, units=3):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, units)
        self.after = after

    def forward(self, x):
        return self.after(self.head(self.body(x).relu()))


def zero_head(features, units, kind=nn.Linear):
    head = kind(features, units)
    nn.init.zeros_(head.weight)
    return head


def test_first_loss_of_a_rare_class():
    head, loss = zero_head(4, 1), nn.BCEWithLogitsLoss()
    with torch.no_grad():
        head.bias.zero_()
        assert loss(head(X)[:, 0], Y).item() == pytest.approx(0.693, abs=5e-4)
        design.output_bias_(head, Y, loss=loss)
        assert loss(head(X)[:, 0], Y).item() == pytest.approx(0.056, abs=5e-4)


def test_the_scores_spread_counts():
    s = torch.special.ndtri((torch.arange(20000) + 0.5).double() / 20000).float()
    y = torch.zeros(20000)
    y[torch.randperm(20000, generator=G)[:200]] = 1
    head, loss = nn.Linear(1, 1), nn.BCEWithLogitsLoss()
    nn.init.ones_(head.weight)
    found = design.output_bias_(head, y, loss=loss, features=s[:, None])
    with torch.no_grad():
        assert head(s[:, None]).sigmoid().mean().item() == pytest.approx(0.01, rel=1e-3)
    assert found.bias.item() == pytest.approx(-5.079, abs=0.01)
    net = nn.Sequential(head)
    again = design.output_bias_("0", y, loss=loss, model=net, data=s[:, None])
    assert torch.allclose(again.bias, found.bias)
    assert "exact only at zero" in design.output_bias_(head, y, loss=loss).note


CASES = {
    "BCE": (nn.BCEWithLogitsLoss(), (Y + (K == 1)).clamp(max=1)[:, None]),
    "weighted BCE": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0)),
        Y[torch.randperm(1000, generator=G), None],
    ),
    "CE": (nn.CrossEntropyLoss(), K),
    "weighted CE": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 5])), K),
    "MSE": (nn.MSELoss(), V + 2),
    "Poisson": (nn.PoissonNLLLoss(), V.round()),
}


@pytest.mark.parametrize("name", CASES)
def test_three_ways_to_one_bias(name):
    loss, x, y = CASES[name][0], X[:300], CASES[name][1][:300]
    leans = name in {"weighted BCE", "MSE"}
    model = Net(units=1 if "BCE" in name else 3)
    design.initialise_(model, x, targets=y, loss=loss, head=1.0)
    by_initialise = model.head.bias.detach().clone()
    with torch.no_grad():
        model.head.bias.copy_(torch.arange(len(by_initialise)) + (5 if leans else 0))
    before = model.head.bias.detach().clone()
    said = plumbob.check(model, x, targets=y, loss=loss, select=["PB601"])
    by_check = before + torch.from_numpy(np.array(said.survey.output.shift))
    found = design.output_bias_("head", y, loss=loss, model=model, data=x)
    free = "CE" in name and "BCE" not in name
    near = 1e-3 if name == "weighted CE" else 1e-4  # check asks it in float32
    for other in (by_initialise, by_check, model.head.bias.detach()):
        centred = other - other.mean() if free else other
        assert torch.allclose(centred.double(), found.bias, atol=near), (name, other)
    assert not leans or "PB601" in {f.code for f in said.findings}
    again = plumbob.check(model, x, targets=y, loss=loss, select=["PB601"])
    assert "PB601" not in {f.code for f in again.findings}


def loader(*tensors):
    g = torch.Generator().manual_seed(3)
    return DataLoader(TensorDataset(*tensors), 100, shuffle=True, generator=g)


def test_a_loader_holds_inputs_and_targets():
    model, loss = Net(), nn.CrossEntropyLoss()
    feed = loader(X, K)
    found = design.output_bias_(model.head, model=model, data=feed, loss=loss)
    whole = design.output_bias_("head", K, model=model, data=X, loss=loss)
    assert torch.allclose(found.bias, whole.bias, atol=1e-6)
    first = tuple(next(iter(loader(X, K))))
    few = design.output_bias_("head", model=model, data=feed, loss=loss, limit=1)
    once = design.output_bias_("head", model=model, data=first, loss=loss)
    assert torch.allclose(few.bias, once.bias)
    given = [X[i : i + 10] for i in range(0, 1000, 10)]  # all 100 batches
    found = design.output_bias_("head", K, model=model, data=given, loss=loss)
    assert torch.allclose(found.bias, whole.bias, atol=1e-6)


LINKS = [
    (lambda z: z.log_softmax(1), nn.NLLLoss(), K),
    (lambda z: z.softmax(1), lambda o, t: nn.NLLLoss()(o.log(), t), K),
    (torch.sigmoid, nn.BCELoss(), torch.eye(3)[K]),
    (torch.sigmoid, nn.MSELoss(), torch.eye(3)[K]),
    (torch.tanh, nn.MSELoss(), torch.eye(3)[K] - 0.3),
    (torch.exp, nn.PoissonNLLLoss(log_input=False), V),
]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(("after", "loss", "y"), LINKS)
def test_what_follows_the_head_is_seen(after, loss, y, zero):
    model = Net(after)
    if zero:  # an output of 0 fits tanh and identity
        nn.init.zeros_(model.head.weight)
        nn.init.zeros_(model.head.bias)
    design.output_bias_("head", model=model, data=(X, y), loss=loss)
    (slope,) = torch.autograd.grad(loss(model(X), y), model.head.bias)
    assert slope.abs().max() < 1e-6


def test_positions_in_either_layout():
    x = torch.randn(50, 6, 4, generator=G)
    k = torch.randint(0, 2, (50, 6), generator=G)
    last, first = Net(), Net(lambda z: z.movedim(-1, 1))
    first.load_state_dict(last.state_dict())
    rows = nn.CrossEntropyLoss(ignore_index=5)
    k[0, 0] = 5
    own = lambda o, t: rows(o.flatten(0, 1), t.flatten())  # ruff: ignore[lambda-assignment]
    many = [(x[:30], k[:30]), (x[30:], k[30:])]
    biases = [
        design.output_bias_("head", model=first, data=many, loss=rows).bias,
        design.output_bias_("head", k, model=last, data=x, loss=rows).bias,
    ]
    assert torch.allclose(biases[0], biases[1])
    v = torch.randn(50, 6, 3, generator=G)
    for model, aim in ((last, v), (first, v.movedim(-1, 1))):
        for loss in (nn.MSELoss(), lambda o, t: (o - t).square().mean()):
            design.output_bias_("head", model=model, data=(x, aim), loss=loss)
            assert torch.allclose(last.head.bias, model.head.bias, atol=1e-6)
            off = (model(x) - aim).flatten(1).sum()
            assert abs(off) < 1e-2
    k[:, 3] = 2
    design.output_bias_("head", model=last, data=(x, k), loss=own)
    (slope,) = torch.autograd.grad(own(last(x), k), last.head.bias)
    assert slope.abs().max() < 1e-6


HEADS = [
    lambda: (nn.Linear(4, 3), X, V),
    lambda: (Conv1D(3, 4), X, V),
    lambda: (parametrizations.weight_norm(nn.Linear(4, 3)), X, V),
    lambda: (
        nn.Conv1d(4, 3, 3, padding=1, padding_mode="circular"),
        X[:40, :, None].repeat(1, 1, 5),
        V[:40, :, None].repeat(1, 1, 5),
    ),
    lambda: (
        nn.Conv2d(4, 6, 2, groups=2),
        torch.randn(20, 4, 5, 5, generator=G),
        torch.rand(20, 6, 4, 4, generator=G),
    ),
    lambda: (
        nn.ConvTranspose2d(4, 6, 3, 2, output_padding=1, groups=2),
        torch.randn(20, 4, 3, 3, generator=G),
        torch.rand(20, 6, 8, 8, generator=G),
    ),
]


@pytest.mark.parametrize("make", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_all_kinds_of_heads(make, dtype):
    head, x, y = make()
    head, x = head.to(dtype), x.to(dtype)
    before = copy.deepcopy(head.state_dict())
    found = design.output_bias_(head, y, loss=nn.MSELoss(), features=x)
    exact = copy.deepcopy(head).double()
    with torch.no_grad():
        exact.bias.copy_(found.bias)
        off = (exact(x.double()) - y).transpose(0, 1).flatten(1)
        if head.weight.ndim == 2:
            off = (exact(x.double()) - y).T
    rounded = hasattr(head, "parametrizations") and dtype is not torch.float32
    assert off.mean(1).abs().max() < (1e-2 if rounded else 1e-6)
    assert torch.equal(head.bias.detach(), found.bias.to(dtype))
    after = head.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in after if k != "bias")


def test_dense_labels_of_a_convolution():
    head = zero_head(2, 3, lambda i, o: nn.Conv2d(i, o, 1))
    loss = nn.CrossEntropyLoss(ignore_index=255)
    design.output_bias_(head, DENSE, loss=loss)
    counts = torch.bincount(DENSE[1:].flatten()).double()
    expected = (counts / counts.sum()).log()
    expected -= expected.mean()
    assert torch.allclose(head.bias.double(), expected, atol=1e-6)


def test_a_map_of_one_unit_without_its_axis():
    head, x = nn.Conv2d(2, 1, 1), torch.randn(20, 2, 4, 5, generator=G)
    y = (torch.rand(20, 4, 5, generator=G) < 0.1).float()
    model, loss = nn.Sequential(head, nn.Flatten(1, 2)), nn.BCEWithLogitsLoss()
    found = design.output_bias_("0", model=model, data=(x, y), loss=loss)
    own = design.output_bias_(
        head, y, features=x, loss=lambda o, t: loss(o[:, 0], t.to(o))
    )
    assert torch.allclose(found.bias, own.bias, atol=1e-5)
    with torch.no_grad():
        assert head(x).sigmoid().mean().item() == pytest.approx(y.mean().item())


def test_a_function_that_knows_float32_alone():
    head, weight = nn.Linear(4, 3), torch.tensor([1.0, 2.0, 5.0])
    known = design.output_bias_(head, K, loss=nn.CrossEntropyLoss(weight), features=X)
    found = design.output_bias_(
        head, K, loss=lambda o, t: cross_entropy(o, t, weight), features=X
    )
    assert torch.allclose(found.bias, known.bias, atol=1e-3)


def test_weights_beside_a_link():
    model, times = Net(torch.sigmoid), 1 + torch.arange(1000) % 3
    loss, aim = nn.MSELoss(), torch.eye(3)[K]
    both = {"loss": loss, "model": model}
    found = design.output_bias_("head", aim, data=X, weight=times, **both)
    x, y = (t.repeat_interleave(times, 0) for t in (X, aim))
    again = design.output_bias_("head", y, data=x, **both)
    assert torch.allclose(found.bias, again.bias, atol=1e-5)


def test_bert_whose_output_is_a_mapping():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    model = BertForMaskedLM(BertConfig(vocab_size=50, num_hidden_layers=1, **sizes))
    tokens = torch.randint(0, 30, (16, 12), generator=G)
    head, loss = model.get_output_embeddings(), nn.CrossEntropyLoss()
    model.eval()
    data = {"input_ids": tokens}
    found = design.output_bias_(head, tokens, model=model, data=data, loss=loss)
    with torch.no_grad():
        shares = model(tokens).logits.softmax(-1).mean((0, 1))
    counts = torch.bincount(tokens.flatten(), minlength=50).double().clamp_min(0.5)
    assert torch.allclose(shares.double(), counts / counts.sum(), rtol=0.2, atol=1e-4)
    assert "counts 1/2" in found.note


def test_nothing_else_is_touched():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.Dropout(), nn.BatchNorm1d(8), nn.Linear(8, 3)
    )
    model(X).sum().backward()
    calls = []
    model[3].register_forward_hook(lambda *_: calls.append(1))
    hooks = [dict(m._forward_hooks) for m in model]
    before = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters()]
    feed = loader(X, K)
    start = feed.generator.get_state()
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    design.output_bias_("3", model=model, data=feed, loss=nn.CrossEntropyLoss())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(feed.generator.get_state(), start)
    after = model.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before if k != "3.bias")
    assert all(map(torch.equal, grads, [p.grad for p in model.parameters()]))
    assert [dict(m._forward_hooks) for m in model] == hooks
    assert all(m.training for m in model.modules())
    assert torch.is_grad_enabled()
    calls.clear()
    design.output_bias_(model[3], V, loss=nn.MSELoss(), features=torch.randn(1000, 8))
    assert not calls


def shared():
    net = Net()
    net.other = nn.Linear(8, 3)
    net.other.bias = net.head.bias
    return net


def frozen():
    net = Net()
    net.head.bias.requires_grad_(False)
    return net


MSE = nn.MSELoss()
REFUSED = [
    (nn.Linear(2, 1, bias=False), {}, "bias=True"),
    (nn.ReLU(), {}, "linear map or convolution, got ReLU"),
    (nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), {}, "last map in it, '0'"),
    ("", {"model": Net()}, "last map in it, 'head'"),
    ("haed", {"model": Net()}, "Did you mean 'head'"),
    (nn.Linear(8, 3), {"model": Net()}, "the head of this very model"),
    ("head", {"model": shared()}, "other shares"),
    ("head", {"model": frozen()}, "is frozen"),
    (nn.LazyLinear(1), {}, "UninitializedParameter"),
    (nn.Linear(2, 1, device="meta"), {}, "meta device"),
    (nn.Linear(4, 3), {"features": X[:, :2], "y": V}, r"the head \[3, 4\] reads"),
    (nn.Linear(4, 3), {"features": X[:9], "y": V}, "of the 1000 samples"),
    (nn.Linear(4, 3), {"features": X}, "expected targets, got none"),
    (nn.Linear(4, 3), {"data": X, "y": V}, "model= beside data="),
    ("head", {"model": Net(), "data": X}, "because a loss is given"),
    ("head", {"model": Net(), "data": (X, {"a": V})}, "one tensor, got dict"),
    ("head", {"model": Net(), "data": X, "y": V[:9]}, "of the 9 samples"),
    ("head", {"model": Net(lambda z: 5 * z), "data": (X, V)}, "known function"),
    ("head", {"model": Net(), "data": (X, K), "loss": nn.NLLLoss()}, "after log_soft"),
    (
        nn.Linear(4, 3),
        {"features": X[:, None], "y": V[:, None, :2]},
        r"targets \[1000, 1\] or \[1000, 1, 3\]",
    ),
    (zero_head(2, 1).half(), {"y": 1e6 * torch.ones(9)}, "torch.float16 can hold"),
    ("0", {"model": nn.Sequential(*[nn.Linear(4, 4)] * 2), "data": (X, X)}, "2 calls"),
]


@pytest.mark.parametrize(("head", "given", "says"), REFUSED)
def test_refusals_say_what_to_do_and_leave_the_model(head, given, says):
    holder = given.get("model", head)
    lazy = "Uninit" in says
    before = {} if lazy else copy.deepcopy(holder.state_dict())
    with pytest.raises(InputError, match=says):
        design.output_bias_(head, **{"loss": MSE, **given})
    after = {} if lazy else holder.state_dict()
    assert all(after[k].is_meta or torch.equal(after[k], before[k]) for k in before)


def test_the_page_runs():
    page = Path(__file__).parents[2] / "docs" / "output-bias.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried > 10
    assert not failed
