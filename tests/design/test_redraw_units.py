"""Rows and columns that are drawn lie where the forward pass reads them."""

import pytest
import torch
from torch import nn

from nets import mlp, seeded
from plumbob.design.redraw_units import redraw_units
from plumbob.errors import InputError
from plumbob.remedies import layout
from plumbob.survey.trace import module_sites
from plumbob.types import Site


def layouts(model):
    return {site.name: layout(site) for site in module_sites(model)}


class Conv1D(nn.Module):
    """x @ W + b, as Hugging Face's GPT-2 has it."""

    def __init__(self, fan_in, out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_in, out))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x):
        return x @ self.weight + self.bias


PAIRS = {
    "linear": (lambda: [nn.Linear(5, 6), nn.Linear(6, 7)], (9, 5)),
    "x @ W": (lambda: [Conv1D(5, 6), Conv1D(6, 7)], (9, 5)),
    "conv": (lambda: [nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 7, 3)], (9, 4, 9, 9)),
    "transposed": (
        lambda: [
            nn.ConvTranspose2d(4, 6, 3, groups=2),
            nn.ConvTranspose2d(6, 7, 3),
        ],
        (9, 4, 5, 5),
    ),
    "flattened": (
        lambda: [nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(6 * 7, 7)],
        (9, 4, 9),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_units_that_are_named_and_no_others_change(name):
    build, shape = PAIRS[name]
    model, x = nn.Sequential(*build()), torch.randn(shape, generator=seeded())
    sites = list(layouts(model).values())
    z, y = model[0](x), model(x)
    redraw_units(model, site=sites[0], rows=(1, 4))
    changed = (model[0](x) != z).transpose(0, 1).flatten(1).any(1)
    assert changed.tolist() == [False, True, False, False, True, False]
    with torch.no_grad():  # silence all units but those whose readers are drawn
        model[0].bias.zero_()
        for unit in (0, 1, 2, 4, 5):
            weight = model[0].weight
            if "W" in name:
                weight[:, unit] = 0
            elif name == "transposed":
                weight[2 * (unit // 3) : 2 * (unit // 3) + 2, unit % 3] = 0
            else:
                weight[unit] = 0
        before = model(x)
        redraw_units(model, site=sites[0], columns=(0, 1, 2, 4, 5), readers=sites[1:])
        assert torch.equal(model(x), before)
        redraw_units(model, site=sites[0], columns=(3,), readers=sites[1:])
        assert not torch.equal(model(x), before)
    assert y.shape == before.shape


def test_moments_meet_their_targets():
    """He's 2 / fan_in behind a ReLU, a given sd, and the other columns' size."""
    model = mlp(400, 300, 200)
    sites = layouts(model)
    site = {**sites["0"], "activation": "relu"}
    w, v = model[0].weight.detach(), model[2].weight.detach()
    with torch.no_grad():
        w.zero_()
        v[:, :100] = 0
    redraw_units(model, site=site, rows=range(300))
    n = w.numel()
    assert abs(w.mean()) < 4 * (2 / 400 / n) ** 0.5
    assert abs(w.var() / (2 / 400) - 1) < 4 * (2 / n) ** 0.5
    redraw_units(model, site=site, rows=range(100), sd=3.0)
    assert abs(w[:100].var() / 9 - 1) < 4 * (2 / 40_000) ** 0.5
    redraw_units(model, site=site, columns=range(100), readers=[sites["2"]])
    ratio = v[:, :100].square().mean() / v[:, 100:].square().mean()
    assert abs(ratio - 1) < 4 * (2 / 20_000) ** 0.5


def test_chance_is_seeded_and_the_process_keeps_its_own():
    drawn = []
    for seed in (0, 0, 1):
        model = mlp(4, 8, 2)
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        redraw_units(model, site=layouts(model)["0"], rows=(0, 1))
        assert torch.equal(torch.get_rng_state(), state)
        drawn.append(model[0].weight.detach().clone())
    same, again, other = drawn
    assert torch.equal(same, again)
    assert not torch.equal(same, other)
    assert not torch.equal(same[0], same[1])


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_momenta_of_what_is_drawn_begin_anew(kind):
    model = mlp(4, 8, 2)
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(model.parameters(), lr=0.1, **options)
    x = torch.randn(16, 4, generator=seeded())
    for _ in range(3):
        model(x).square().sum().backward()
        optimizer.step()
    key = "momentum_buffer" if options else "exp_avg_sq"
    sites = layouts(model)
    first, second = (optimizer.state[model[i].weight][key] for i in (0, 2))
    given = {"rows": (2,), "columns": (2, 3), "readers": [sites["2"]]}
    redraw_units(model, optimizer, site=sites["0"], **given)
    assert first.eq(0).all(1).tolist() == [i == 2 for i in range(8)]
    assert second.eq(0).all(0).tolist() == [i in {2, 3} for i in range(8)]


def test_a_part_of_a_packed_weight():
    attention = nn.MultiheadAttention(4, 2)
    site = Site(
        name="key",
        kind="linear",
        out=4,
        fan_in=4,
        weight="in_proj_weight",
        rows=(4, 8),
    )
    before = attention.in_proj_weight.detach().clone()
    redraw_units(attention, site=layout(site), rows=(1,))
    same = (attention.in_proj_weight == before).all(1).tolist()
    assert same == [i != 5 for i in range(12)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rows": (8,)}, r"units from 0 to 7 of 0, got \[8\]"),
        ({"columns": (-1,)}, r"units from 0 to 7 of 0, got \[-1\]"),
        ({"site": {"weight": "3.weight"}}, "3.weight"),
        ({"site": {"out": 9}}, "not laid out as W"),
        ({"site": {"kind": "norm"}}, "a norm has no rows"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(changes, says):
    model = mlp(4, 8, 2)
    before = model[0].weight.detach().clone()
    site = layouts(model)["0"] | changes.pop("site", {})
    with pytest.raises(InputError, match=says):
        redraw_units(model, site=site, **{"rows": (0,)} | changes)
    assert torch.equal(model[0].weight, before)


def test_a_frozen_reader_is_refused_before_anything_is_written():
    model = mlp(4, 8, 2)
    model[2].weight.requires_grad_(False)
    before = model[0].weight.detach().clone()
    sites = layouts(model)
    given = {"rows": (0,), "columns": (0,), "readers": [sites["2"]]}
    with pytest.raises(InputError, match=r"2.weight .* frozen"):
        redraw_units(model, site=sites["0"], **given)
    assert torch.equal(model[0].weight, before)


def test_units_of_separate_calls_are_drawn_apart():
    model = mlp(4, 8, 8, 2)
    sites = layouts(model)
    for unit in (1, 2):
        redraw_units(
            model,
            site=sites["0"],
            rows=(unit,),
            sd=1.0,
            columns=(unit,),
            readers=[sites["2"]],
        )
    assert not torch.isclose(model[0].weight[1], model[0].weight[2]).any()
    assert not torch.isclose(model[2].weight[:, 1], model[2].weight[:, 2]).any()


def test_units_twice_and_readers_of_other_units_are_refused():
    model = nn.Sequential(
        nn.Linear(4, 6), nn.Linear(4, 6), nn.Conv1d(6, 6, 1, groups=2)
    )
    sites = layouts(model)
    before = {n: p.clone() for n, p in model.state_dict().items()}
    with pytest.raises(InputError, match="different units from 0 to 5"):
        redraw_units(model, site=sites["0"], rows=(1, 1))
    for reader, says in (("1", "got 1 with 4 columns"), ("2", "in 2 groups")):
        with pytest.raises(InputError, match=says):
            redraw_units(model, site=sites["0"], columns=(1,), readers=[sites[reader]])
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())
