from dataclasses import replace

import pytest

from hand_chains import ADAM, SGD, chain, output
from plumbob.rule import findings
from plumbob.rules.bias_growth import bias_growth
from plumbob.types import Census, Gradient, Stage


def of(bias, weight=1.0, **more):
    survey = chain([1.0], **{"optimizer": SGD} | more)
    (site,) = survey.sites
    sizes = {"a0.bias": bias, "a0.weight": weight}
    return replace(
        survey,
        sites=(replace(site, bias="a0.bias"),),
        gradients={n: Gradient(reached=True, norm=v) for n, v in sizes.items()},
        tensors={
            "a0.bias": Census(shape=(4,), dtype="float32", count=4),
            "a0.weight": Census(shape=(4, 4), dtype="float32", count=16),
        },
    )


def told(survey):
    return [f.evidence for f in findings(bias_growth, survey)]


@pytest.mark.parametrize(("bias", "fires"), [(2.99, False), (3.01, True)])
def test_nine_tenths_of_the_squares_decide(bias, fires):
    assert bool(told(of(bias))) is fires


def test_the_ratio_is_that_of_root_mean_squares():
    (evidence,) = told(of(6.0))
    assert evidence["share"] == pytest.approx(36 / 37)
    assert evidence["ratio"] == pytest.approx(12)  # 6 / 2 over 1 / 4
    assert evidence["x"] == pytest.approx(1)


def test_it_is_a_matter_of_the_start_and_of_plain_steps():
    assert told(of(9.0, optimizer=None))
    assert told(of(9.0, output=output(1.9)))
    assert not told(of(9.0, optimizer=ADAM))
    assert not told(of(9.0, output=output(1.7)))
    assert not told(of(9.0, said=Stage.TRAINED))


def test_weights_that_are_cut_off_are_left_to_others():
    assert not told(of(9.0, weight=0.0))
