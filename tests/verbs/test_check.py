"""`check` as a function: what goes with what, and nothing left behind."""

import subprocess
import sys

import pytest

import plumbob
from plumbob import InputError


@pytest.mark.parametrize("name", ["data", "targets", "loss", "optimizer", "stage"])
def test_a_checkpoint_takes_nothing_else(name):
    with pytest.raises(InputError, match=f"got {name}= beside 'x.safetensors'"):
        plumbob.check("x.safetensors", **{name: print if name == "loss" else "init"})


def test_unweighed_parameters_are_listed_as_not_judged():
    from torch import device, nn

    report = plumbob.check(nn.Linear(2, 2, device=device("meta")))
    assert "meta" in report.not_judged["PB101"]
    assert "no values (device meta)" in str(report)


def test_the_first_check_draws_no_random_number():
    code = """
import random
import torch
import plumbob
model = torch.nn.Linear(2, 2)
before = random.getstate()
plumbob.check(model, torch.ones(4, 2))
assert random.getstate() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)
