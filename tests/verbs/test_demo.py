"""The demo finds what it planted, and measures what it prints."""

import re

import pytest

from plumbob.verbs import demo


@pytest.fixture(scope="module")
def text():
    parts = []
    demo.demo(parts.append)
    return "\n".join(parts)


def test_every_planted_fault_is_found(text):
    assert f"Found {len(demo.PLANTED)} of the {len(demo.PLANTED)} planted" in text
    assert demo.PLANTED.keys() == demo.CURES.keys()


def test_the_tables_hold_a_measured_row_for_each_cure(text):
    for code in demo.CURES:
        row = rf"^  (without )?{code} .* \d\.\d{{3}}  [+-]\d\.\d{{3}} \["
        assert len(re.findall(row, text, re.MULTILINE)) == 2
    assert re.search(r"^  all cures +\d\.\d{3}  -\S+ \[.*\] \* ", text, re.MULTILINE)


def test_interval_is_students():
    runs = [(0.0, 3), (1.0, 3), (2.0, 3), (3.0, 3), (4.0, 3)]
    assert demo.change([1.0, 2.0, 3.0, 4.0, 5.0], runs, 0) == (
        "+1.000 [+1.000, +1.000] *"
    )
    # mean 2, standard error sqrt(2.5 / 5), t = 2.776
    assert demo.change([4.0, 4.0, 4.0, 4.0, 4.0], runs, 0) == (
        "+2.000 [+0.037, +3.963] *"
    )


def test_batches_of_one_seed_are_the_same_for_every_plan():
    first, second = demo.build(3), demo.build(3)
    demo.CURES["PB201"](second)
    for (_, a), (_, b) in zip(demo.epoch(first, 2), demo.epoch(second, 2), strict=True):
        assert (a == b).all()
