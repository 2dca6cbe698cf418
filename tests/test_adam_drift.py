"""The docs' example of biases that wander, in a few steps: benchmarks/adam_drift.py."""

import importlib.util
from pathlib import Path

import pytest
import torch

import plumbob

PATH = Path(__file__).parents[1] / "benchmarks" / "adam_drift.py"
NULL = ("key.bias", "map.bias")
STEPS = 60


@pytest.fixture(scope="module")
def drift():
    spec = importlib.util.spec_from_file_location("adam_drift", PATH)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with torch.random.fork_rng(devices=[]):
        yield script


def test_adam_moves_what_nothing_sees_and_sgd_does_not(drift):
    ends = {}
    for kind in ("SGD", "Adam"):
        _, sizes, noise = drift.run(kind, steps=STEPS)
        ends[kind] = {name: values[-1] for name, values in sizes.items()}
        for name in NULL:
            assert noise[name] < 1e-4 * noise["query.bias"]
            walked = drift.walk(kind, noise[name], STEPS)
            assert walked / 5 < ends[kind][name] < 5 * walked
    assert ends["Adam"]["key.bias"] > 1e-4 > 1e-7 > ends["SGD"]["key.bias"]
    assert ends["Adam"]["map.bias"] > 1e-3 > 1e-5 > ends["SGD"]["map.bias"]


def test_after_fix_there_is_nothing_to_move(drift):
    model = drift.net()
    adam, (x, _) = drift.optimizer("Adam", model), drift.digits()
    (fixed, by), _ = plumbob.fix(model, x[:64], goal="training", optimizer=adam)
    sizes, _ = drift.trained(fixed, by, steps=3)
    assert set(sizes) == {"query.bias"}
