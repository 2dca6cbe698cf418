"""A fifth of the data held out to validate on, drawn by the seed."""

from collections.abc import Mapping, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from plumbob.errors import InputError

PART = 5  # one in so many is held out


def hold_out(data: Any, seed: int) -> tuple[Any, Any]:
    """Split data into four fifths to train on and one fifth to validate on.

    A DataLoader is split by the samples of its dataset, a list of batches by every
    fifth batch, a single batch by its rows. Samples are taken to be independent.

    Raises:
        InputError: the data cannot be split in two.

    Example:
        >>> hold_out(list("abcdef"), seed=1)
        (['a', 'c', 'd', 'e', 'f'], ['b'])
    """
    if isinstance(data, DataLoader):
        return _of_loader(data, seed)
    if isinstance(data, list) and len(data) > 1:
        part = min(PART, len(data))
        held = set(range(seed % part, len(data), part))
        train = [item for i, item in enumerate(data) if i not in held]
        return train, [data[i] for i in sorted(held)]
    if isinstance(data, list) and data:
        train, valid = _of_rows(data[0], seed)
        return [train], [valid]
    if isinstance(data, Tensor | tuple | Mapping):
        return _of_rows(data, seed)
    raise InputError(_ask(f"a {type(data).__name__} cannot be split"))


def _of_loader(loader: DataLoader[Any], seed: int) -> tuple[Any, Any]:
    own: Any = loader.batch_sampler  # also where only its batch_size was given
    simple = own is None or type(own) is BatchSampler
    sampler: Any = own.sampler if own is not None and simple else loader.sampler
    plain = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    )
    if isinstance(loader.dataset, IterableDataset) or not isinstance(
        loader.dataset, Sized
    ):
        raise InputError(_ask("the loader's dataset has no length"))
    if not (plain and simple):
        raise InputError(_ask("the loader has a sampler of its own"))
    held, rest = _parts(len(loader.dataset), seed)
    size = loader.batch_size if own is None else own.batch_size
    if len(rest) > 1 and len(rest) % (size or 1) == 1:
        held.append(rest.pop())  # batch norm cannot train on a last batch of one
    same: dict[str, Any] = {
        "batch_size": size,
        "num_workers": loader.num_workers,
        "collate_fn": loader.collate_fn,
        "pin_memory": loader.pin_memory,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        "prefetch_factor": loader.prefetch_factor,
    }
    train = DataLoader(
        Subset(loader.dataset, rest),
        shuffle=type(sampler) is RandomSampler,
        drop_last=loader.drop_last if own is None else own.drop_last,
        generator=None if loader.generator is None else torch.Generator(),
        persistent_workers=loader.persistent_workers,
        **same,
    )
    return train, DataLoader(Subset(loader.dataset, held), **same)


def _of_rows(batch: Any, seed: int) -> tuple[Any, Any]:
    rows = {
        len(t) if t.ndim else 0
        for t in pytree.tree_leaves(batch)
        if isinstance(t, Tensor)
    }
    if len(rows) != 1 or not (count := rows.pop()):
        raise InputError(
            _ask("the tensors of the batch have different numbers of rows")
        )
    held, rest = _parts(count, seed)
    train, valid = (
        pytree.tree_map_only(Tensor, lambda t, part=part: t[part], batch)
        for part in (rest, held)
    )
    return train, valid


def _parts(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Draw a fifth of the numbers below `count`, and return it and the others.

    Raises:
        InputError: there are not two.
    """
    if count < 2:
        raise InputError(_ask("there is only one sample"))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = max(1, count // PART)
    return sorted(order[:held].tolist()), sorted(order[held:].tolist())


def _ask(why: str) -> str:
    return (
        f"expected data of which a fifth can be held out, but {why}; pass valid=, a "
        "loader of what to validate on"
    )
