import pytest
import torch
from torch import nn

import plumbob
from nets import duplicate_units
from netting import codes, seeded
from plumbob.rewrites.merge_duplicate_units import merge_duplicate_units
from rewriting import done, offers, refusals, settled


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=seeded(1))


def mlp(activation=nn.ReLU, times=1.0):
    """Unit 4 is unit 1, so many times."""
    model = nn.Sequential(nn.Linear(3, 6), activation(), nn.Linear(6, 2))
    for p in model[0].parameters():
        p.data[4] = times * p.data[1]
    return model


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])
def test_columns_of_copies_add_up(activation):
    model = mlp(activation)
    mended = done(merge_duplicate_units, model, drawn(8, 3))
    kept = [0, 1, 2, 3, 5]
    assert torch.equal(mended[0].weight, model[0].weight[kept])
    expected = model[2].weight[:, kept].clone()
    expected[:, 1] += model[2].weight[:, 4]
    torch.testing.assert_close(mended[2].weight, expected, rtol=0, atol=6e-8)


@pytest.mark.parametrize("times", [4.0, 0.125])
def test_a_power_of_two_is_a_copy_before_a_relu(times):
    model = mlp(nn.ReLU, times)
    mended = done(merge_duplicate_units, model, drawn(8, 3))
    expected = model[2].weight[:, 1] + times * model[2].weight[:, 4]
    torch.testing.assert_close(mended[2].weight[:, 1], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.GELU, nn.Tanh, nn.ELU])
def test_a_multiple_is_none_before_what_bends_otherwise(activation):
    assert not offers(merge_duplicate_units, mlp(activation, 2.0), drawn(8, 3))


@pytest.mark.parametrize("times", [3.0, -1.0])
def test_other_multiples_do_not_survive_rounding(times):
    assert not offers(merge_duplicate_units, mlp(nn.ReLU, times), drawn(8, 3))


def test_nearly_equal_is_not_equal():
    model = mlp()
    model[0].bias.data[4] = torch.nextafter(model[0].bias.data[1], torch.tensor(9.0))
    assert not offers(merge_duplicate_units, model, drawn(8, 3))


def normed():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    )
    model.append(nn.Linear(4 * 9, 2))
    nn.init.normal_(model[1].running_mean)
    for t in (*model[0].parameters(), *model[1].parameters(), model[1].running_mean):
        t.data[3] = t.data[0]
    return model


def test_a_norm_must_treat_both_alike():
    x = drawn(4, 2, 5, 5)
    mended = done(merge_duplicate_units, normed(), x)
    assert (mended[1].num_features, mended[4].in_features) == (3, 27)
    other = normed()
    other[1].running_var[3] = 2.0
    assert not offers(merge_duplicate_units, other, x)


def test_two_layers_at_once():
    model = nn.Sequential(*mlp(), nn.ReLU(), nn.Linear(2, 3))
    model[2].weight.data[1] = model[2].weight.data[0]
    model[2].bias.data[1] = model[2].bias.data[0]
    mended = done(merge_duplicate_units, model, drawn(8, 3))
    shapes = [tuple(mended[i].weight.shape) for i in (0, 2, 4)]
    assert shapes == [(5, 3), (1, 5), (3, 1)]
    assert settled(merge_duplicate_units, mended, drawn(8, 3))


def test_copies_that_are_returned_stay():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    model[0].weight.data[1] = model[0].weight.data[0]
    model[0].bias.data[1] = model[0].bias.data[0]
    assert not list(refusals(merge_duplicate_units, model, drawn(8, 3)))


def test_a_frozen_layer_stays_frozen():
    model = mlp().requires_grad_(requires_grad=False)
    mended = done(merge_duplicate_units, model, drawn(8, 3))
    assert not any(p.requires_grad for p in mended.parameters())


def test_check_has_no_more_to_say():
    model = duplicate_units(leans=True)["model"]
    x = drawn(8, 4)
    assert "PB107" in codes({"model": model, "data": x})
    mended, proof = plumbob.fix(model, x, select="merge-duplicate-units")
    assert [c.rewrite for c in proof.certificates] == ["merge-duplicate-units"]
    assert "PB107" not in codes({"model": mended, "data": x})


class Branching(nn.Sequential):
    """Its way depends on the values, so that one run does not tell of all."""

    def forward(self, x):
        return super().forward(x if float(x.sum()) < 1e9 else x[:1])


def test_one_recorded_run_is_told_and_not_enough():
    model, x = Branching(*duplicate_units(leans=True)["model"]), drawn(8, 4)
    (finding,) = plumbob.check(model, x, select="PB107").findings
    assert "plumbob fix --select PB107" in finding.remedy.advice
    (why,) = refusals(merge_duplicate_units, model, x)
    assert "one recorded run only" in why
