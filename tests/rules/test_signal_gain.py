from dataclasses import replace

import numpy as np
import pytest

from hand_chains import chain
from plumbob.rule import findings
from plumbob.rules.signal_gain import signal_gain


def shares(survey):
    return [f.evidence["share"] for f in findings(signal_gain, survey)]


@pytest.mark.parametrize(("sd", "told"), [(1.1e-3, False), (0.9e-3, True)])
def test_the_share_of_the_deviation_in_the_size_decides(sd, told):
    found = shares(chain([1.0, 1.0, sd, 1.0], offset=1.0))
    assert found == (pytest.approx([sd], rel=1e-5) if told else [])


def test_an_offset_that_the_input_has_is_not_its_affair():
    survey = chain([1.0, 1e-4, 1e-4, 1e-4], offset=1.0)
    z = survey.readings["a0"].z
    off = replace(survey.readings["a0"], z=replace(z, mean=z.mean + 1e3))
    assert shares(survey)
    assert not shares(replace(survey, readings=survey.readings | {"a0": off}))


def test_one_finding_at_the_first_map_that_has_lost_it():
    survey = chain([1.0, 1.0, 1e-4, 1e-5, 1e-6], offset=1.0)
    assert [f.site for f in findings(signal_gain, survey)] == ["a2"]


def test_the_output_and_what_nothing_arrives_at_are_left_to_others():
    assert not shares(chain([1.0, 1.0, 1.0, 1e-6], offset=5.0))
    survey = chain([1.0, 1.0, 1e-5, 1.0], offset=1.0)
    still = replace(survey.readings["a2"].x, m2=np.zeros(4))
    dead = {"a2": replace(survey.readings["a2"], x=still)}
    assert not shares(replace(survey, readings=survey.readings | dead))
