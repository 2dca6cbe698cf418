"""Batches are the same whatever else is drawn, and a fifth is held out of them."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from plumbob import InputError
from plumbob.trials.feed import Feed, opened
from plumbob.trials.holdout import hold_out


class Noisy(TensorDataset):
    """A dataset that draws from every generator there is."""

    def __getitem__(self, index):
        (x,) = super().__getitem__(index)
        return x + torch.rand(1) + np.random.rand() + random.random()


class Endless(IterableDataset):
    def __iter__(self):
        yield from torch.arange(8.0)


def drawn(count):
    torch.rand(count), np.random.rand(count), random.random()


def states():
    """All but Python's own, which the checks of annotations under test draw from."""
    return np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def loader(generator=None, **options):
    data = Noisy(torch.arange(20.0))
    return DataLoader(data, batch_size=4, shuffle=True, generator=generator, **options)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("own", [None, torch.Generator()])
def test_what_is_drawn_in_between_moves_no_batch(own, workers):
    if workers and own is not None:
        pytest.skip("workers once are enough")
    persistent = workers > 0
    given = loader(own, num_workers=workers, persistent_workers=persistent)
    before = states(), own and own.get_state().tolist()
    feed, seen = Feed(given, 3), []
    for passes in range(2):
        batches = feed.endless()
        seen.append(torch.cat([next(batches) for _ in range(12)]))
        if not passes:
            assert (states(), own and own.get_state().tolist()) == before
        drawn(passes + 1)
        if own is not None:
            torch.rand(3, generator=own)
    assert torch.equal(*seen)
    assert not torch.equal(seen[0][:20], seen[0][20:40])  # the second epoch
    assert not torch.equal(torch.cat(list(Feed(given, 4))), seen[0][:20])


def test_an_interruption_leaves_the_generators_alone():
    before = states()
    batches = Feed(loader(), 0).endless()
    next(batches)
    batches.close()
    assert states() == before


def test_functions_are_opened_with_the_seed_and_again_where_used_up():
    def made():
        return (torch.rand(2) for _ in range(3))

    before = states()
    data = opened(made, 0)
    one, two = list(Feed(data, 1)), list(Feed(data, 1))
    assert torch.equal(torch.stack(one), torch.stack(two))
    assert len(one) == 3
    assert states() == before
    with pytest.raises(InputError, match="used up by the first"):
        opened(made(), 0)


def test_a_loader_is_split_by_the_seed_and_keeps_its_settings():
    given = loader(drop_last=True)
    train, valid = hold_out(given, 0)
    assert (len(train.dataset), len(valid.dataset)) == (16, 4)
    assert {*train.dataset.indices, *valid.dataset.indices} == set(range(20))
    assert train.batch_size == 4
    assert train.drop_last
    assert not valid.drop_last
    assert type(train.sampler) is type(given.sampler)
    assert hold_out(given, 0)[1].dataset.indices == valid.dataset.indices
    assert hold_out(given, 1)[1].dataset.indices != valid.dataset.indices


def test_a_batch_sampler_is_split_too():
    rows = TensorDataset(torch.arange(20.0))
    draws = RandomSampler(rows, generator=torch.Generator())
    given = DataLoader(rows, batch_sampler=BatchSampler(draws, 3, drop_last=True))
    train, valid = hold_out(given, 0)
    assert [len(x) for (x,) in train] == [3] * 5
    assert type(train.sampler) is RandomSampler
    assert [len(x) for (x,) in valid] == [3, 2]


def test_single_samples_and_what_holds_no_batches_are_refused():
    with pytest.raises(InputError, match=r"wrap it: DataLoader\(dataset"):
        opened(TensorDataset(torch.arange(4.0)), 0)
    with pytest.raises(InputError, match="cannot feed int"):
        opened(3, 0)


def test_no_batch_of_one_is_left_over():
    data = DataLoader(TensorDataset(torch.arange(21.0)), batch_size=4)
    train, valid = hold_out(data, 0)  # 17 and 4
    assert (len(train.dataset), len(valid.dataset)) == (16, 5)
    assert [len(x) for (x,) in train] == [4] * 4


def test_rows_are_split_together():
    x = torch.arange(10.0)
    (a, b), (c, d) = hold_out((x, {"y": -x}), 0)
    assert torch.equal(a, -b["y"])
    assert torch.equal(c, -d["y"])
    assert sorted([*a.tolist(), *c.tolist()]) == x.tolist()
    assert len(c) == 2


def test_one_batch_in_a_list_is_split_by_rows_too():
    (train,), (valid,) = hold_out([torch.arange(5)], 0)
    assert (len(train), len(valid)) == (4, 1)


@pytest.mark.parametrize(
    "data",
    [
        DataLoader(Endless(), batch_size=2),
        DataLoader(torch.arange(4), sampler=WeightedRandomSampler([1.0] * 4, 4)),
        (torch.zeros(3), torch.zeros(4)),
        torch.zeros(1),
        Feed([1], 0),
    ],
    ids=["endless", "sampler", "rows", "one", "loop"],
)
def test_what_cannot_be_split_asks_for_valid(data):
    with pytest.raises(InputError, match="pass valid="):
        hold_out(data, 0)
