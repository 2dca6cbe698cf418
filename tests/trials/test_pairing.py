"""Runs that are not given the same are refused; what can be put back is."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    TensorDataset,
)

from plumbob import InputError, trial
from plumbob.trials.pairing import READ, Print, check_paired
from plumbob.trials.record import Run

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
ROWS = TensorDataset(X, X.sum(1, keepdim=True))


class Noisy(Dataset):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        x, y = ROWS[index]
        return x + float(self.rng.normal()), y


class Own(Sampler):
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(X)

    def __iter__(self):
        return iter(self.rng.permutation(len(X)).tolist())


def collate(rng, items):
    x, y = map(torch.stack, zip(*items, strict=True))
    return x + float(rng.normal()), y


def drawn(generator):
    model = nn.Linear(3, 1)
    nn.init.normal_(model.weight, generator=generator)
    return model


@cache
def uncopyable():
    with pytest.warns(FutureWarning):
        model = nn.utils.weight_norm(nn.Linear(3, 1))
    model(X)  # now its weight is a computed tensor
    return model


def tried(**options):
    case = {
        "build": partial(nn.Linear, 3, 1),
        "data": DataLoader(ROWS, 8),
        "loss": mse_loss,
        "optimizer": partial(torch.optim.SGD, lr=0.1),
        "steps": 7,
        "seeds": 2,
        "remedies": {"idle": lambda model, optimizer: None},
    }
    return trial(**(case | options))


@pytest.mark.parametrize(
    "options",
    [
        {"data": DataLoader(Noisy(), 8)},
        {"data": DataLoader(ROWS, 8, collate_fn=partial(collate, Noisy().rng))},
        {"valid": DataLoader(Noisy(), 8)},
        {"build": partial(drawn, torch.Generator().manual_seed(0))},
        {"build": uncopyable},
    ],
    ids=["dataset", "collate", "valid", "build", "cached"],
)
def test_what_draws_from_its_own_generator_is_refused(options):
    with pytest.raises(InputError, match="'idle' of seed 0 were not given the same"):
        tried(**options)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(ROWS, 8, sampler=Own()),
        DataLoader(ROWS, batch_sampler=BatchSampler(Own(), 8, False)),
        DataLoader(
            ROWS,
            batch_sampler=BatchSampler(
                RandomSampler(ROWS, generator=torch.Generator()), 8, False
            ),
        ),
    ],
    ids=["sampler", "batch-sampler", "generator"],
)
def test_samplers_begin_anew_in_each_run(loader):
    table = tried(data=loader, valid=[(X, X.sum(1, keepdim=True))])
    for one, two in zip(table.of("as it is"), table.of("idle"), strict=True):
        assert one.curve == two.curve
        assert one.given == two.given
        assert len(set(one.given)) == 9  # of the weights, and 8 validations


def test_a_function_that_makes_the_generator_too_is_paired():
    table = tried(data=lambda: DataLoader(Noisy(), 8))
    assert table.of("as it is")[0].curve == table.of("idle")[0].curve


def test_a_run_is_compared_with_its_seed_as_far_as_it_went():
    whole = Run(arm="x", seed=0, curve=(), given=("a", "b", "c"))
    check_paired(Run(arm="y", seed=0, curve=(), given=("a", "b")), [whole])
    other = Run(arm="y", seed=1, curve=(), given=("b",))
    check_paired(other, [whole])
    with pytest.raises(InputError, match="'x' and 'y' of seed 1 were not given"):
        check_paired(other, [Run(arm="x", seed=1, curve=(), given=("a",))])


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(0),
        torch.tensor(True),
        torch.ones(3, 2, dtype=torch.bfloat16).T,
        torch.eye(3).to_sparse(),
        nn.LazyLinear(2),
        torch.ones(3 * READ),
    ],
    ids=["empty", "flag", "bf16", "sparse", "lazy", "large"],
)
def test_every_tensor_has_a_print(values):
    found = Print()
    found.mark()
    if isinstance(values, nn.Module):
        found.model(values)
        return
    found.add({"x": [values]})
    found.mark()
    assert found.marks[0] != found.marks[1]
