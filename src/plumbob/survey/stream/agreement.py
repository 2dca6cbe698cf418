"""Ranks that watch the same training, and what they tell each other."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from hashlib import blake2b
from itertools import count
from typing import Any

import torch
from torch import Tensor, distributed

WAIT = timedelta(seconds=5)  # for other ranks to come to their first measured step
GONE = (RuntimeError, ValueError)  # ranks, their store, or the whole group
EQUAL = 1e-6  # of its size; copies that are in step are the same to the last bit

_numbers = count()


class Agreement:
    """Whether every rank watches, so that each can count on the others' answers.

    A rank that watched alone would wait for ever in a collective. So all write down
    what they watch where all can read it, and whoever has seen all others, or has
    waited too long for them, is the first to write down the decision.
    """

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.ranks = 1
        self.alike = set[str]()  # parameters that once were the same

    def reach(self, names: Sequence[str]) -> None:
        """Come to an agreement; without other ranks there is nothing to agree on."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        ranks, rank = distributed.get_world_size(), distributed.get_rank()
        if ranks == 1:
            return
        store, start = _store(), f"plumbob/{self.number}"
        keys = [f"{start}/{one}" for one in range(ranks)]
        store.set(keys[rank], blake2b("\n".join(names).encode()).hexdigest())
        try:
            store.wait(keys, WAIT)
            same = len({store.get(key) for key in keys}) == 1
            found = "together" if same else "alone"
        except RuntimeError:  # not all of them came
            found = "alone"
        if store.compare_set(start, "", found) == b"together":
            self.ranks = ranks

    def leave(self) -> None:
        """Tell the others not to wait for this rank any more."""
        if self.ranks > 1 and distributed.is_initialized():
            with suppress(*GONE):
                _store().set(f"plumbob/{self.number}/left", "1")

    def deserted(self) -> bool:
        """Return whether another rank has left, before anything is asked of it.

        What ranks share between two steps, their gradients, puts the one before the
        other.
        """
        if self.ranks == 1:
            return False
        try:
            return _store().check([f"plumbob/{self.number}/left"])
        except GONE:
            return True

    def any(self, here: bool, device: torch.device) -> bool:
        """Return whether something is so on any rank, or cannot be asked."""
        if self.ranks == 1:
            return here
        flag = torch.tensor([float(here)], device=device)
        try:
            distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        except GONE:  # or there is no way between where the parameters are
            return True
        return bool(flag.item())

    def apart(self, sums: Tensor) -> Tensor:
        """Return by how much the copies of parameters differ, as a share of them.

        `sums` are, for each parameter, those of its values, of their squares and of the
        gradient's, and the number of values, of a sample. By the inequality of Cauchy
        and Schwarz the difference is at least what is returned; of zeros it is NaN.
        """
        parts = [torch.empty_like(sums) for _ in range(self.ranks)]
        distributed.all_gather(parts, sums.contiguous())
        total, square, slope, n = torch.stack(parts).unbind(1)
        far = (total - total[0]).abs().amax(0) / n[0].clamp(min=1).sqrt()
        size = square.sqrt()
        far = torch.maximum(far, (size - size[0]).abs().amax(0))
        share = far / size.amax(0)
        pulled = (slope == slope[0]).all(0) & (slope[0] > 0)
        return torch.stack([share, pulled.to(share.dtype)])

    def told(self, names: Sequence[str], found: Any) -> Mapping[str, float]:
        """Return the copies that should be the same and are not.

        They should be where they once were, or where their gradients are the same:
        parts of a model that is cut up over the ranks never are.
        """
        apart: dict[str, float] = {}
        for name, share, pulled in zip(names, *found.tolist(), strict=True):
            if share > EQUAL and (pulled or name in self.alike):
                apart[name] = share
            elif share <= EQUAL:
                self.alike.add(name)
        return apart


def _store() -> Any:
    return distributed.distributed_c10d._get_default_store()  # pyright: ignore
