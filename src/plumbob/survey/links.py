"""The function between the last net input and the output, known by its values."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

Link = Callable[[Tensor, int], Tensor]
View = Callable[[Tensor], Tensor]

LINKS: dict[str, Link] = {
    "identity": lambda z, axis: z,
    "sigmoid": lambda z, axis: z.sigmoid(),
    "softmax": lambda z, axis: z.softmax(axis),
    "log_softmax": lambda z, axis: z.log_softmax(axis),
    "tanh": lambda z, axis: z.tanh(),
    "softplus": lambda z, axis: torch.nn.functional.softplus(z),
    "exp": lambda z, axis: z.exp(),
    "relu": lambda z, axis: z.relu(),
    "logsigmoid": lambda z, axis: torch.nn.functional.logsigmoid(z),
}


class Linked(NamedTuple):
    """How outputs are made of z: by which link, and where the units then lie."""

    made: View
    link: str
    axis: int


def linked(z: Tensor, axis: int, outputs: Tensor, *, first: str) -> Linked | None:
    """Find the function by whose values outputs come from z, or None.

    Args:
        z: net inputs.
        axis: of their units.
        outputs: of as many numbers.
        first: the link tried first: a z of 0 fits tanh and identity.
    """
    exact = {z.dtype, outputs.dtype} <= {torch.float32, torch.float64}
    close = 1e-4 if exact else 2e-2
    for link, (view, at) in product(
        sorted(LINKS, key=lambda name: name != first), _views(z, axis, outputs)
    ):
        made = partial(_made, link=LINKS[link], axis=axis, view=view)
        if torch.allclose(made(z).to(outputs), outputs, rtol=close, atol=close * 1e-2):
            return Linked(made, link, at)
    return None


def _made(z: Tensor, *, link: Link, axis: int, view: View) -> Tensor:
    return view(link(z, axis))


def _views(z: Tensor, axis: int, outputs: Tensor) -> Iterator[tuple[View, int]]:
    """Yield the ways in which z may be laid out in the outputs, and the units' axis.

    They lay out any number of samples.
    """
    shape = (-1, *outputs.shape[1:])
    yield (lambda a: a.reshape(shape)), axis
    if axis == -1 and len(shape) > 2 and z.shape[-1] == shape[1]:
        rows = (-1, *shape[2:], shape[1])  # (N, T, C) handed on as (N, C, T)
        yield (lambda a: a.reshape(rows).movedim(-1, 1)), 1
