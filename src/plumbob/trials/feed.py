"""The same batches in every arm of a trial, whatever the nets in it draw."""

import copy
import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from plumbob import address
from plumbob.errors import InputError
from plumbob.survey.batches import generators, loader_of
from plumbob.survey.guard import same_random

_END = object()


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Draws:
    """The state of all generators that batches are drawn with, swapped in on demand.

    What a net draws between two batches (dropout, noise) thus moves no batch.
    """

    def __init__(self, seed: int, generators: Iterable[torch.Generator] = ()) -> None:
        self.generators = list(generators)
        theirs = [g.get_state() for g in self.generators]
        with same_random():
            seed_all(seed)
            self.state = [g.manual_seed(seed).get_state() for g in self.generators]
            self.known = (random.getstate(), np.random.get_state())
            self.torch = torch.get_rng_state()
        self._put(theirs)

    @contextmanager
    def mine(self) -> Generator[None, None, None]:
        """Draw from these states; what others draw from goes on afterwards."""
        theirs = [g.get_state() for g in self.generators]
        with same_random():
            random.setstate(self.known[0])
            np.random.set_state(self.known[1])
            torch.set_rng_state(self.torch)
            self._put(self.state)
            try:
                yield
            finally:
                self.known = (random.getstate(), np.random.get_state())
                self.torch = torch.get_rng_state()
                self.state = [g.get_state() for g in self.generators]
                self._put(theirs)

    def _put(self, states: list[Tensor]) -> None:
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)


class Feed:
    """Batches that are the same, in the same order, each time they are asked for.

    Args:
        data: a loader, or a single batch.
        seed: of the generators that the loader draws from.
        device: where the batches are sent; None: nowhere.
        shuffle: whether a list of batches is fed in another order at each pass, as
            drawn by the seed; a loader shuffles as it is set up to.

    Example:
        >>> feed = Feed([1, 2, 3, 4], seed=0, shuffle=True)
        >>> list(feed) == list(feed), sorted(feed)
        (True, [1, 2, 3, 4])
    """

    def __init__(
        self,
        data: Any,
        seed: int,
        *,
        device: torch.device | None = None,
        shuffle: bool = False,
    ) -> None:
        if isinstance(data, Tensor | tuple | Mapping):
            data = [data]
        self.data = _Shuffled(data) if shuffle and isinstance(data, list) else data
        self.seed, self.device = seed, device

    def __iter__(self) -> Iterator[Any]:
        return self._passes(endless=False)

    def endless(self) -> Iterator[Any]:
        """Yield pass after pass; nothing where a pass holds nothing."""
        return self._passes(endless=True)

    def _passes(self, *, endless: bool) -> Iterator[Any]:
        data = self.data
        if isinstance(data, DataLoader):
            data = _copied(data)
        draws = Draws(self.seed, generators(data))
        some = True
        while some:
            some = False
            with draws.mine():
                items = iter(data)
            while True:
                with draws.mine():
                    item = next(items, _END)
                if item is _END:
                    break
                some = endless
                yield _sent(item, self.device)


class _Shuffled:
    """A list in an order drawn from Python's generator."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(random.sample(self.items, len(self.items)))


class _Again:
    """What a function makes that can be looped over only once."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return self.make()


def opened(data: Any, seed: int) -> Any:
    """Return data at an address, or made by a function, or as they are.

    Raises:
        InputError: they can be looped over only once, or not for batches.
    """
    if isinstance(data, str):
        make: Callable[[], Any] = partial(address.data, data)
    elif callable(data) and not isinstance(data, Iterable | Tensor):
        make = data
    elif isinstance(data, Iterator):
        raise InputError(
            f"expected data that every run can loop over anew, got a "
            f"{type(data).__name__}, which is used up by the first; pass the loader, "
            "or a function that makes it"
        )
    else:
        return _batched(data)
    with Draws(seed).mine():
        made = make()
    return _Again(make) if isinstance(made, Iterator) else _batched(made)


def _batched(data: Any) -> Any:
    return data if isinstance(data, Tensor | tuple | Mapping) else loader_of(data)


def _copied(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a loader of the same dataset whose samplers begin where these are."""
    copied = copy.copy(loader)
    # Persistent workers remember what they drew.
    copied._iterator = None  # pyright: ignore[reportPrivateUsage]
    memo = {id(loader.dataset): loader.dataset}
    try:
        own = {
            name: copy.deepcopy(getattr(loader, name), memo)
            for name in ("sampler", "batch_sampler")
        }
    except Exception:  # the user's; if it draws, the runs are found not to be paired
        return copied
    copied.__dict__.update(own)  # a loader lets nobody set them
    return copied


def _sent(item: Any, device: torch.device | None) -> Any:
    """Send tensors, and what else can be sent (packed sequences), to a device."""

    def sent(part: Any) -> Any:
        return part.to(device) if device and hasattr(part, "to") else part

    return pytree.tree_map(sent, item)
