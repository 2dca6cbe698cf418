import pytest

from hand_chains import chain, output, signals
from plumbob.rule import findings
from plumbob.rules.exploding_gradient import exploding_gradient
from plumbob.types import Severity, Stage


def severities(ratio, *, places=None, **more):
    found = signals([ratio, 1.0, 1.0, 1.0], places=places)
    survey = chain([1.0] * 4, **{"output": output(2.0), "signals": found} | more)
    return [f.severity for f in findings(exploding_gradient, survey)]


@pytest.mark.parametrize(
    ("ratio", "severity"), [(29, []), (31, [Severity.WARNING]), (0.01, [])]
)
def test_the_ratio_decides(ratio, severity):
    assert severities(ratio) == severity


def test_a_net_that_learns_is_left_in_peace():
    assert not severities(1e3, output=output(1.7))
    assert severities(1e3, output=output(1.9)) == [Severity.WARNING]


def test_what_upsampling_adds_up_is_taken_off():
    assert not severities(100, places=[1, 16, 16, 16])
    assert severities(200, places=[1, 16, 16, 16]) == [Severity.WARNING]


def test_where_the_loss_cannot_be_asked_only_the_beginning_is_sure():
    assert severities(100, output=None) == [Severity.WARNING]
    assert severities(100, output=None, stage=Stage.TRAINED) == [Severity.INFO]


def test_a_gradient_of_nothing_is_no_ratio():
    found = signals([0.0, 1.0, 0.0, 0.0])
    survey = chain([1.0] * 4, output=output(2.0), signals=found)
    assert not list(findings(exploding_gradient, survey))
