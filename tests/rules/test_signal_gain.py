from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hand_chains import chain, output
from netting import seeded
from plumbob.rule import findings
from plumbob.rules.signal_gain import signal_gain
from plumbob.survey.measure import measure
from plumbob.types import Severity, Stage


def shares(survey):
    return [f.evidence["share"] for f in findings(signal_gain, survey)]


@pytest.mark.parametrize(("sd", "told"), [(1.1e-3, False), (0.9e-3, True)])
def test_the_share_of_the_deviation_in_the_size_decides(sd, told):
    found = shares(chain([1.0, 1.0, sd, 1e-3], offset=1.0))
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
    survey = chain([1.0, 1.0, 1e-5, 1e-5], offset=1.0)
    still = replace(survey.readings["a2"].x, m2=np.zeros(4))
    dead = {"a2": replace(survey.readings["a2"], x=still)}
    assert not shares(replace(survey, readings=survey.readings | dead))


@pytest.mark.parametrize(("later", "told"), [(0.02, True), (0.03, False)])
def test_what_comes_back_behind_was_not_lost(later, told):
    """A thirtieth of the 0.71 that the first map has is 0.0236."""
    found = chain([1.0, 1e-4, later, 1e-4], offset=1.0)
    first = found.readings["a0"]
    z = replace(first.z, mean=first.z.mean + 1.0)
    readings = found.readings | {"a0": replace(first, z=z)}
    told_at = [f.site for f in findings(signal_gain, replace(found, readings=readings))]
    assert ("a1" in told_at) is told


def test_the_last_map_of_a_chain_has_none_behind_it():
    found = chain([1.0, 1.0, 1e-5], offset=1.0)
    last = replace(found.sites[-1], is_output=False)
    assert not shares(replace(found, sites=(*found.sites[:-1], last)))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (output(2.0), True),
        (output(1.81), True),
        (output(1.79), False),  # a tenth of what there is to learn is learnt
        (output(0.5, constant=0.5, floor=0.5), False),  # nothing is left
    ],
)
def test_a_net_that_has_learnt_lost_nothing(found, told):
    survey = chain([1.0, 1.0, 1e-4, 1e-5, 1e-6], offset=1.0)
    assert bool(shares(replace(survey, output=found))) is told


@pytest.mark.parametrize(
    ("stage", "severity"),
    [(Stage.TRAINED, Severity.INFO), (Stage.UNKNOWN, Severity.WARNING)],
)
def test_of_a_trained_net_without_a_loss_it_is_info(stage, severity):
    survey = chain([1.0, 1.0, 1e-4, 1e-5, 1e-6], offset=1.0, stage=stage)
    assert [f.severity for f in findings(signal_gain, survey)] == [severity]


class Turned(nn.Module):
    """Turns images by what it makes of them: at first by nothing."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16)),
            *(nn.ReLU(), nn.Linear(16, 6)),
        )
        nn.init.normal_(self.loc[-1].weight, std=1e-4)
        self.loc[-1].bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(144, 3)

    def forward(self, x):
        grid = nn.functional.affine_grid(
            self.loc(x).view(-1, 2, 3), list(x.shape), align_corners=False
        )
        turned = nn.functional.grid_sample(x, grid, align_corners=False)
        return self.head(self.body(turned))


def test_parameters_that_begin_as_the_identity():
    torch.manual_seed(0)
    survey = measure(Turned(), torch.randn(64, 1, 8, 8, generator=seeded()))
    z = survey.readings["loc.5"].z
    assert np.sqrt(z.var.mean()) < 1e-3 * np.sqrt((z.var + z.mean**2).mean())
    assert not shares(survey)
