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


def test_the_table_holds_a_measured_row_for_each_remedy(text):
    assert f"{demo.SEEDS} paired seeds of {demo.STEPS} steps" in text
    for code in demo.PLANTED:
        assert (
            len(re.findall(rf"^{code} .* [+-]0\.\d+ ± 0\.\d+ ", text, re.MULTILINE))
            == 1
        )
    assert re.search(r"^all together .* helps$", text, re.MULTILINE)


def test_the_same_seed_plants_the_same_net():
    import torch

    def first():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return demo.build().state_dict()

    one, two = first(), first()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (one["fc3.bias"][2:] == -9).all()
