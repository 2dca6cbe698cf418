"""Counts the open paths of a piecewise linear network: ones sent through its gates."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from plumbob.survey.batches import Batch
from plumbob.survey.graph import tensors
from plumbob.survey.guard import untouched
from plumbob.types import Paths

aten = torch.ops.aten
SAMPLES = 64
MOST = 2**24  # parameters: the count is made in float64
# what only moves numbers moves counts alike
MOVES = {
    *("view", "_unsafe_view", "reshape", "t", "transpose", "permute", "expand"),
    *("squeeze", "unsqueeze", "slice", "select", "clone", "alias", "detach", "cat"),
    *("stack", "constant_pad_nd", "split", "split_with_sizes", "unbind", "index"),
    *("flip", "roll", "repeat", "narrow", "contiguous", "flatten", "as_strided"),
}
OPEN = {"leaky_relu", "_prelu_kernel", "neg", "_to_copy", "native_dropout", "dropout"}
SCALES = {"mul", "div"}
SUMS = {"add", "sub"}


class _UncountedError(Exception):
    """An operation that is not piecewise linear, or that is not known here."""


def count_paths(model: nn.Module, batch: Batch) -> tuple[Paths | None, str]:
    """Count the open paths of the first samples in evaluation; or say why not.

    The model is left as found.
    """
    if sum(p.numel() for p in model.parameters()) > MOST:
        return None, f"more than {MOST} parameters"
    few = batch.few(SAMPLES)
    given = [
        t
        for t in pytree.tree_leaves((few.args, dict(few.kwargs)))
        if isinstance(t, Tensor) and t.is_floating_point()
    ]
    if not given:
        return None, "no input of real numbers"
    try:
        active, total = (_counted(model, few, given, every=e) for e in (False, True))
    except _UncountedError as error:
        return None, f"{error} is no gate and not piecewise linear"
    return Paths(active=active, total=total), ""


def _counted(
    model: nn.Module, batch: Batch, given: list[Tensor], *, every: bool
) -> Any:
    counts = _Counts(every=every)
    with untouched(model), torch.no_grad():
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval()
        copies = {id(t): t.detach().clone() for t in given}
        for t in copies.values():
            counts.note(t, torch.ones_like(t, dtype=torch.float64))

        def copy(value: Any) -> Any:
            return copies.get(id(value), value)

        args, kwargs = pytree.tree_map(copy, (batch.args, dict(batch.kwargs)))
        with counts:
            output = model(*args, **kwargs)
        ends = (counts.of(t) for t in tensors(output))
        end = next((c for c in ends if c is not None), None)
    if end is None:
        raise _UncountedError("what leads to the output")
    return end.reshape(len(end), -1).sum(1).numpy()


class _Counts(TorchDispatchMode):
    """Holds beside each tensor how many open paths lead to each of its numbers."""

    def __init__(self, *, every: bool) -> None:
        super().__init__()
        self.every = every
        self.held: dict[int, tuple[Tensor, Tensor]] = {}

    def note(self, t: Tensor, count: Tensor) -> None:
        self.held[id(t)] = (t, count)

    def of(self, t: Any) -> Tensor | None:
        return self.held[id(t)][1] if id(t) in self.held else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__.rstrip("_")
        leaves = pytree.tree_leaves((args, kwargs))
        known = any(isinstance(t, Tensor) and self.of(t) is not None for t in leaves)
        out = func(*args, **kwargs)
        first = out[0] if isinstance(out, tuple) and name not in MOVES else out
        if known and _carries(first):
            count = self._count(name, func, args, kwargs, out)
            for t, c in zip(_parts(first), _parts(count), strict=True):
                self.note(t, c)
        return out

    def _count(self, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
        if name in MOVES:
            moved = pytree.tree_map(self._or_zeros, (args, kwargs))
            return func(*moved[0], **moved[1])
        if name in RULES:
            return RULES[name](self, out, *args, **kwargs)
        if name in OPEN:
            return self.of(args[0])
        if name in SUMS | SCALES:
            return self._pair(name, out, args[0], args[1])
        raise _UncountedError(name)

    def _or_zeros(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        count = self.of(value)
        return torch.zeros_like(value, dtype=torch.float64) if count is None else count

    def _pair(self, name: str, out: Tensor, a: Any, b: Any) -> Tensor:
        one, two = self.of(a), self.of(b)
        if one is not None and two is not None:
            if name in SCALES:
                raise _UncountedError(f"a product ({name}) of two signals")
            return one + two
        count, other = (one, b) if one is not None else (two, a)
        assert count is not None
        if name == "div" and one is None:
            raise _UncountedError("a division by a signal")
        if name in SUMS:
            return count.expand(out.shape)
        return count * (torch.as_tensor(other) != 0)

    def gate(self, out: Tensor, x: Tensor, low: Any = 0, high: Any = None) -> Tensor:
        """Return the counts where the result is not at an end of its range."""
        count = self.of(x)
        assert count is not None
        if self.every:
            return count
        open_ = out > (-torch.inf if low is None else low)
        return count * (open_ & (out < (torch.inf if high is None else high)))

    def product(self, out: Tensor, x: Tensor, w: Tensor, bias: Any = None) -> Tensor:
        """Return the counts behind x @ w.

        Raises:
            _UncountedError: both are signals.
        """
        one, two = self.of(x), self.of(w)
        if one is not None and two is not None:
            raise _UncountedError("a product (mm) of two signals")
        left = (x != 0).double() if one is None else one
        return left @ ((w != 0).double() if two is None else two)


def _parts(value: Any) -> Iterator[Any]:
    return iter(value if isinstance(value, (list, tuple)) else (value,))


def _carries(value: Any) -> bool:
    return all(isinstance(t, Tensor) and t.is_floating_point() for t in _parts(value))


def _convolution(
    counts: _Counts, out: Tensor, x: Tensor, w: Tensor, bias: Any, *options: Any
) -> Tensor:
    if (count := counts.of(x)) is None or counts.of(w) is not None:
        raise _UncountedError("a convolution by a signal")
    return aten.convolution(count, (w != 0).double(), None, *options)


def _norm(
    counts: _Counts, out: Any, x: Tensor, w: Tensor | None, *rest: Any
) -> Tensor | None:
    """Count behind a batch norm in evaluation: a factor per channel.

    Raises:
        _UncountedError: it takes the statistics of the batch.
    """
    if len(rest) > 3 and rest[3] is True:
        raise _UncountedError("a batch norm in training")
    count = counts.of(x)
    if w is None or count is None:
        return count
    return count * (w != 0).reshape(1, -1, *[1] * (x.ndim - 2))


def _max_pool(counts: _Counts, out: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    count, (value, at) = counts.of(x), out
    assert count is not None
    flat = count.flatten(-2) if x.ndim > 2 else count
    return flat.gather(-1, at.flatten(-2)).reshape(value.shape)


def _mean(
    counts: _Counts,
    out: Tensor,
    x: Tensor,
    axes: Any = None,
    keep: bool = False,
    **_: Any,
) -> Tensor:
    count = counts.of(x)
    assert count is not None
    axes = tuple(range(count.ndim)) if axes is None else axes
    return count.sum(axes, keepdim=keep)


def _average(
    counts: _Counts,
    out: Tensor,
    x: Tensor,
    size: Any,
    step: Any = (),
    padding: Any = 0,
    ceil: bool = False,
    *_: Any,
) -> Tensor:
    count = counts.of(x)
    assert count is not None
    return aten.avg_pool2d(count, size, step, padding, ceil, divisor_override=1)


def _linear(counts: _Counts, out: Tensor, x: Tensor, w: Tensor, *_: Any) -> Tensor:
    return counts.product(out, x, w.T)


def _biased(
    counts: _Counts, out: Tensor, bias: Any, x: Tensor, w: Tensor, **_: Any
) -> Tensor:
    return counts.product(out, x, w)


def _clamp_min(counts: _Counts, out: Tensor, x: Tensor, low: Any) -> Tensor:
    return counts.gate(out, x, low)


def _hardtanh(
    counts: _Counts, out: Tensor, x: Tensor, low: Any = -1, high: Any = 1
) -> Tensor:
    return counts.gate(out, x, low, high)


RULES: dict[str, Callable[..., Any]] = {
    "relu": _Counts.gate,
    "clamp_min": _clamp_min,
    "hardtanh": _hardtanh,
    "mm": _Counts.product,
    "bmm": _Counts.product,
    "linear": _linear,
    "addmm": _biased,
    "baddbmm": _biased,
    "convolution": _convolution,
    "native_batch_norm": _norm,
    "_native_batch_norm_legit_no_training": _norm,
    "max_pool2d_with_indices": _max_pool,
    "mean": _mean,
    "sum": _mean,
    "avg_pool2d": _average,
}
