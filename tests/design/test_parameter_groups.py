import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from plumbob.design.parameter_groups import groups
from plumbob.errors import InputError

RATES = {"lr": 0.01, "weight_decay": 0.1}


def roles(split):
    return {row.parameter: row.role for row in split.rows()}


def rates(split):
    return {row.parameter: row.lr for row in split.rows()}


def decays(split):
    return {row.parameter for row in split.rows() if row.weight_decay}


def deep(split):
    return {row.parameter: row.depth for row in split.rows()}


def mlp(*, norm=False):
    parts = [nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)]
    if norm:
        parts.insert(1, nn.BatchNorm1d(6))
    return nn.Sequential(*parts)


def test_recurrent_layers():
    net = nn.ModuleDict({"r": nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2)})
    net["head"] = nn.Linear(4, 1)
    split = groups(net, **RATES)
    assert decays(split) == {n for n, p in net.named_parameters() if p.ndim == 2}
    assert set(roles(split).values()) == {"recurrent", "bias", "matrix"}
    depth = deep(split)
    assert all(d == int("l1" in n) for n, d in depth.items() if n.startswith("r."))
    assert depth["head.bias"] == 2


def test_only_the_decayed_shrink_at_a_gradient_of_zero():
    net = mlp(norm=True)
    split = groups(net, **RATES)
    adam = torch.optim.AdamW(split)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    adam.step()
    for name, p in net.named_parameters():
        factor = 1 - 0.01 * 0.1 if name in decays(split) else 1.0
        torch.testing.assert_close(p.detach(), factor * before[name])
    assert decays(split) == {"0.weight", "3.weight", "5.weight"}


def test_layer_decay_last_and_bias_lr_are_real_learning_rates():
    net = mlp(norm=True)
    split = groups(net, **RATES, layer_decay=0.5, last=(2, 10.0), bias_lr=0.02)
    expected = {
        "0.weight": 0.0025,
        "0.bias": 0.005,
        "1.weight": 0.0025,
        "1.bias": 0.0025,
        "3.weight": 0.05,
        "3.bias": 0.1,
        "5.weight": 0.1,
        "5.bias": 0.2,
    }
    assert rates(split) == pytest.approx(expected)
    held = {
        id(p): group["lr"]
        for group in torch.optim.SGD(split).param_groups
        for p in group["params"]
    }
    assert {n: held[id(p)] for n, p in net.named_parameters()} == rates(split)


def test_a_scheduler_of_torch_multiplies_them():
    adam = torch.optim.AdamW(groups(mlp(), **RATES, layer_decay=0.5))
    before = [group["lr"] for group in adam.param_groups]
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda _: 0.1)
    schedule.optimizer.step()
    now = [group["lr"] for group in adam.param_groups]
    assert now == pytest.approx([0.1 * lr for lr in before])


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm = nn.LayerNorm(n)
        self.q, self.k, self.v = (nn.Linear(n, n) for _ in range(3))

    def forward(self, x):
        y = self.norm(x)
        return x + (self.q(y) @ self.k(y).mT).softmax(-1) @ self.v(y)


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 2)  # registered before what it reads
        self.blocks = nn.ModuleList(Block(8) for _ in range(3))
        self.table = nn.Embedding(7, 8)

    def forward(self, ids):
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_depth_is_counted_in_blocks_and_by_execution_where_data_are_given():
    ids = torch.zeros(2, 3, dtype=torch.long)
    split = groups(Tower(), **RATES, data=ids)
    depth = deep(split)
    assert depth.pop("table.weight") == 0
    assert {depth.pop("head.weight"), depth.pop("head.bias")} == {4}
    assert all(d == int(name.split(".")[1]) + 1 for name, d in depth.items())
    assert split.how == "order in the graph, a block as one layer (3 blocks)"
    split = groups(Tower(), **RATES)
    assert deep(split)["head.weight"] == 0
    assert "order of registration" in str(split)


def test_maps_side_by_side_are_equally_deep():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.c(self.a(x) + self.b(x))

    depth = deep(groups(Two(), **RATES, data=torch.randn(2, 3)))
    assert [depth[f"{n}.weight"] for n in "abc"] == [0, 0, 1]


def test_freezing_by_role_path_and_range():
    net = Tower()
    split = groups(net, **RATES, freeze="embeddings, blocks.0-1")
    expected = {"table.weight"} | {
        n for n, _ in net.named_parameters() if n.startswith(("blocks.0", "blocks.1"))
    }
    assert set(split.frozen) == expected
    assert {n for n, p in net.named_parameters() if not p.requires_grad} == expected
    assert expected.isdisjoint({r.parameter for r in split.rows() if r.group})
    assert "frozen by freeze=" in str(split)
    again = groups(net, **RATES)
    assert again.frozen == ()
    assert [len(g["params"]) for g in again] == [len(g["params"]) for g in split]


@pytest.mark.parametrize(
    ("freeze", "says"),
    [
        ("blocks.0-3", "whose blocks.3 has none. Did you mean 'blocks.2'"),
        ("embedings", "Did you mean 'embeddings'"),
        ("embeddings, haed", "Did you mean 'head'"),
        ("scales", "of which the model has none; it has embeddings, biases"),
        ("blocks.2-1", "got 'blocks.2-1'"),
    ],
)
def test_what_freezes_nothing_is_an_error_and_freezes_nothing(freeze, says):
    net = Tower()
    with pytest.raises(InputError, match=says):
        groups(net, **RATES, freeze=freeze)
    assert all(p.requires_grad for p in net.parameters())


def test_own_groups_are_kept_with_their_settings():
    net = mlp()
    mine = {"params": iter([net[4].weight]), "lr": 0.5, "betas": (0.5, 0.6)}
    extra = nn.Parameter(torch.zeros(()))  # the loss's own
    split = groups(net, **RATES, own=[mine, {"params": extra, "name": "loss"}])
    assert split[0]["lr"], split[0]["betas"] == (0.5, (0.5, 0.6))
    adam = torch.optim.AdamW(split, weight_decay=0.3)
    assert adam.param_groups[0]["params"] == [net[4].weight]
    assert adam.param_groups[0]["weight_decay"] == pytest.approx(0.3)
    assert adam.param_groups[1]["params"] == [extra]
    row = next(row for row in split.rows() if row.parameter == "4.weight")
    assert (row.group, row.lr, row.weight_decay, row.why) == (
        "own 0",
        0.5,
        None,
        "yours",
    )
    held = [id(p) for g in adam.param_groups for p in g["params"]]
    assert sorted(held) == sorted(map(id, [*net.parameters(), extra]))


@pytest.mark.parametrize(
    ("own", "freeze", "says"),
    [
        ([["0.weight"], ["0.bias", "0.weight"]], "", "0.weight in groups 0 and 1"),
        ([["0.weight", "0.weight"]], "", "in groups 0 and 0"),
        ([["0.weight"]], "matrices", "in your own group 0 and in freeze='matrices'"),
    ],
)
def test_a_parameter_in_two_places_is_one_clear_error(own, freeze, says):
    net = mlp()
    known = dict(net.named_parameters())
    given = [{"params": [known[name] for name in names]} for names in own]
    with pytest.raises(InputError, match=says):
        groups(net, **RATES, own=given, freeze=freeze)
    assert all(p.requires_grad for p in net.parameters())


def test_own_groups_of_another_kind_are_refused():
    with pytest.raises(InputError, match="dicts with 'params', got a Parameter"):
        groups(mlp(), **RATES, own=[nn.Parameter(torch.ones(1))])
    with pytest.raises(InputError, match=r"got '0\.weight'; pass the tensors"):
        groups(mlp(), **RATES, own=[{"params": ["0.weight"]}])


def test_muon_gets_the_hidden_matrices_of_two_axes():
    net = nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.Flatten(), *mlp(), nn.ReLU(), nn.Linear(2, 3)
    )
    split = groups(net, **RATES, muon=True)
    names = {id(p): n for n, p in net.named_parameters()}
    hidden = {names[id(p)] for g in split.muon for p in g["params"]}
    assert hidden == {"2.weight", "4.weight", "6.weight"}
    torch.optim.Muon(split.muon)
    torch.optim.AdamW(split.rest)
    total = sum(len(g["params"]) for part in (split.muon, split.rest) for g in part)
    assert total == len(names)
    said = {row.parameter: row.why for row in split.rows()}
    assert said["0.weight"].endswith("not for Muon: 3 axes")
    assert said["8.weight"].endswith("not for Muon: the head")
    first = groups(mlp(), **RATES, muon=True).rows()[0]
    assert first.why.endswith("not for Muon: reads the input")


def test_tied_and_shared_ones_stand_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)
            self.twice = nn.Linear(4, 4)
            self.again = self.twice
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.again(self.twice(self.table(ids))))

    for data in (None, torch.tensor([[1, 2]])):
        net = Tied()
        split = groups(net, **RATES, data=data)
        held = [id(p) for group in split for p in group["params"]]
        assert sorted(held) == sorted(map(id, net.parameters()))
        assert decays(split) == {"twice.weight"}
        assert groups(net, **RATES, freeze="head", data=data).frozen == (
            "table.weight",
        )


def test_tables_are_decayed_where_that_is_asked_for():
    split = groups(Tower(), **RATES, decay_embeddings=True)
    assert "table.weight" in decays(split)


def test_a_model_on_the_meta_device():
    with torch.device("meta"):
        net = Tower()
    ids = torch.zeros(2, 3, dtype=torch.long)
    real = groups(Tower(), **RATES, layer_decay=0.9, data=ids)
    assert groups(net, **RATES, layer_decay=0.9, data=ids).rows() == real.rows()


def test_the_model_and_the_random_states_are_left_alone():
    net = mlp(norm=True).train()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    groups(net, **RATES, data=torch.randn(5, 4, generator=torch.Generator()))
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lr": -1.0}, "lr= of at least 0, got -1"),
        ({"weight_decay": float("nan")}, "weight_decay= of at least 0"),
        ({"bias_lr": -0.1}, "bias_lr= of at least 0"),
        ({"layer_decay": 0.0}, "layer_decay= above 0"),
        ({"layer_decay": 1.1}, "at most 1"),
        ({"last": (4, 2.0)}, "k from 1 to 3"),
        ({"last": (1, -2.0)}, "factor of at least 0"),
    ],
)
def test_numbers_out_of_range(given, says):
    with pytest.raises(InputError, match=says):
        groups(mlp(), **RATES | given)


def test_models_without_settled_parameters():
    with pytest.raises(InputError, match="all 6 parameters of Sequential are frozen"):
        groups(mlp(), **RATES, freeze="matrices, biases")
    with pytest.raises(InputError, match="with parameters, got ReLU"):
        groups(nn.ReLU(), **RATES)
    with pytest.raises(InputError, match=r"0\.weight of a lazy module; run"):
        groups(nn.Sequential(nn.LazyLinear(3)), **RATES)


def test_a_compiled_model_is_split_by_its_own_names():
    data = [(torch.randn(8, 4), torch.zeros(8))]
    split = groups(torch.compile(mlp()), **RATES, data=data, freeze="0")
    assert split.frozen == ("0.weight", "0.bias")
    assert "graph" in split.how


def test_the_table():
    split = plumbob.design.groups(mlp(), **RATES, freeze="4")
    assert str(split).splitlines() == [line.replace("|", "") for line in TABLE]


TABLE = (
    "group          lr  decay  role    tensors  numbers  why             |"
    "                         which",
    "decayed      0.01    0.1  matrix        2       60  multiplies a map|"
    "'s input, by its module  {0,2}.weight",
    "not decayed  0.01      0  bias          2       12  added to W x, by|"
    " its module              {0,2}.bias",
    "frozen          -      -  matrix        1       12  frozen by freeze|"
    "=                        4.weight",
    "frozen          -      -  bias          1        2  frozen by freeze|"
    "=                        4.bias",
    "depth by the order of registration",
)
