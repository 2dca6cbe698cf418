"""The same call at other sizes, where a model may do other things."""

import copy
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import product

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from plumbob.errors import InputError, one_line
from plumbob.survey.batches import Batch
from plumbob.survey.graph import export, inner
from plumbob.survey.guard import same_random

MOST = 1 << 18  # numbers in a tensor that is still made larger
MOST_PARAMETERS = 1 << 24  # of a model that is still given more

Axes = list[tuple[int, int]]  # which tensor, and which axis of it


def resized(model: nn.Module, batch: Batch, *, training: bool = False) -> Batch:
    """Return a batch of other sizes, as far as a model takes them; values repeat.

    Why:
        A graph is that of one size. At another a model may pad to whole windows or
        take another branch, and what was proved does not hold there.

    A size, wherever it is met, becomes one less than twice as large, or one less. The
    model is untouched.

    Raises:
        InputError: it does not even run on the batch that is given, in `training` or
            else in inference.
    """
    call = (batch.args, dict(batch.kwargs))
    leaves, spec = pytree.tree_flatten(
        pytree.tree_map_only(Tensor, Tensor.detach, call)
    )
    args, kwargs = pytree.tree_unflatten(leaves, spec)
    batch = Batch(args=args, kwargs=kwargs, samples=batch.samples)
    tensors = {i: t for i, t in enumerate(leaves) if isinstance(t, Tensor)}
    own = copy.deepcopy(inner(model))
    failed = {mode: _failed(own, batch, mode) for mode in (False, True)}
    if error := failed[training]:
        raise InputError(
            f"{type(model).__name__} failed on {batch.shapes()} in "
            f"{'training' if training else 'inference'}: {one_line(error)}; pass a "
            "batch that it runs on"
        ) from error
    if any(t.layout != torch.strided or t.is_nested for t in tensors.values()):
        return batch
    modes = [mode for mode, error in failed.items() if error is None]

    def taken(axes: Axes, size: int) -> bool:
        nonlocal leaves, batch
        found = [*leaves]
        for i, axis in axes:
            found[i] = _resized(found[i], axis, size)
        args, kwargs = pytree.tree_unflatten(found, spec)
        made = Batch(args=args, kwargs=kwargs, samples=batch.samples)
        runs = all(_failed(own, made, mode) is None for mode in modes)
        if runs:
            leaves, batch = found, made
        return runs

    held = (p.numel() for p in own.parameters() if not p.is_meta)
    light = sum(held) <= MOST_PARAMETERS
    sizes = dict.fromkeys(n for t in tensors.values() for n in t.shape if n)
    for size in sizes:
        ways = product(_axes(tensors, size), _new(tensors, size, grow=light))
        any(taken(axes, new) for axes, new in ways)
    return batch


def _axes(tensors: Mapping[int, Tensor], size: int) -> Iterator[Axes]:
    """Yield all axes of a size together, and then each by itself."""
    shapes = ((i, enumerate(t.shape)) for i, t in tensors.items())
    every = [(i, axis) for i, shape in shapes for axis, n in shape if n == size]
    yield every
    if len(every) > 1:
        yield from ([one] for one in every)


def _new(tensors: Mapping[int, Tensor], size: int, *, grow: bool) -> list[int]:
    """Return what may become of a size, in the order in which it is tried.

    An index beyond a table is an error on a processor and the end of an accelerator.
    """
    for t in tensors.values():
        grow = grow and t.numel() <= MOST and t.device.type in {"cpu", "meta"}
    return [2 * size - (size > 1)] * grow + [size - 1] * (size > 2)


def _resized(t: Tensor, axis: int, size: int) -> Tensor:
    return torch.cat((t, t), axis).narrow(axis, 0, size)


@torch.no_grad()
def _failed(model: nn.Module, batch: Batch, training: bool) -> Exception | None:
    """Return what a model raises, None where it runs; without values, is traced."""
    if any(p.is_meta for p in model.parameters()):
        try:
            export(model, batch.args, batch.kwargs, training=training)
        except InputError as error:
            return error
        return None
    args, kwargs = copy.deepcopy((batch.args, dict(batch.kwargs)))
    eager = nullcontext()
    if "torch._dynamo" in sys.modules:  # of parts that are compiled
        eager = torch.compiler.set_stance("force_eager")
    with same_random(), eager, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.train(training)(*args, **kwargs)
        except Exception as error:  # whatever a model raises at a size not its own
            return error
    return None
