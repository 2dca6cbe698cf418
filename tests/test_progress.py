from dataclasses import replace

import pytest

from hand_chains import ADAM, SGD, chain, output
from plumbob.progress import in_proportion, learnt


@pytest.mark.parametrize(
    ("loss", "share"), [(2.0, 0.0), (0.5, 1.0), (1.25, 0.5), (3.5, -1.0)]
)
def test_the_share_learnt_lies_between_the_best_constant_and_the_floor(loss, share):
    survey = chain([1.0], output=output(loss, floor=0.5))
    assert learnt(survey) == pytest.approx(share)


def test_nothing_is_said_where_nothing_is_left_to_learn():
    assert learnt(chain([1.0])) is None
    assert learnt(chain([1.0], output=output(0.0, constant=0.0))) is None


def test_who_steps_in_proportion_to_the_gradient():
    known = [in_proportion(chain([1.0], optimizer=o)) for o in (SGD, ADAM, None)]
    assert known == [True, False, False]
    both = replace(SGD, name="SGD + Adam")
    assert in_proportion(chain([1.0], optimizer=both))


def test_without_a_floor_only_that_nothing_is_learnt_can_be_said():
    likelihood = replace(output(-1.0, constant=-0.5), floor=None)
    assert learnt(chain([1.0], output=likelihood)) is None
    assert learnt(chain([1.0], output=replace(likelihood, loss=-0.5))) == 0
