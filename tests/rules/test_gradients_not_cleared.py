import pytest

from past_by_hand import said, survey
from plumbob.rules.gradients_not_cleared import gradients_not_cleared


@pytest.mark.parametrize(
    ("looked", "uncleared", "fires"),
    [
        (0, 0, False),
        (10, 0, False),
        (1, 1, False),
        (2, 2, True),
        (10, 5, False),
        (10, 6, True),
        (10_000, 9_999, True),
    ],
)
def test_more_than_half_of_at_least_two(looked, uncleared, fires):
    case = survey(looked=looked, uncleared=uncleared)
    found = said(gradients_not_cleared, case)
    assert [severity for severity, _ in found] == ["ERROR"] * fires
    assert not fires or f"{uncleared} of {looked} first" in found[0][1]
