"""Sees every affine map that a model computes, whatever module computes it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from plumbob.survey.parts import Part, Parts, storage
from plumbob.survey.recurrent import Cell, Sums, cells

aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """One computation of z: inputs x with features on `x_axis`, z likewise.

    `kind` is "map", "embedding" or "norm"; `rows` the units of the parameter that
    are used, where these are not all; `bias` what was added. `turn` counts the uses
    of the weight in this way.
    """

    weight: str
    kind: str
    units: int
    z: Tensor
    z_axis: int
    fan_in: int
    x: Tensor | None = None
    x_axis: int = -1
    rows: tuple[int, int] | None = None
    transposed: bool = False
    convolution: bool = False
    groups: int = 1
    bias: Tensor | None = None
    bias_name: str | None = None
    turn: int = 0


class Maps(TorchDispatchMode):
    """Tells of each map as it happens.

    Of its input at once, before any in-place operation can change it, and of z then
    too, or after the bias that is added next.

    A bias counts as added next if the first operation that reads z (views apart)
    adds a parameter along the units. Copies of a parameter (a cast by autocast,
    `contiguous`) count as the parameter. A weight that is computed from parameters
    belongs to none and is not seen; nor is one matrix per sample or per expert. A
    single vector or a parameter is seen as input only where the weight is in
    `vectors`: else it is a power iteration (spectral norm), or makes a weight (LoRA).
    """

    def __init__(
        self,
        model: nn.Module,
        on_input: Callable[[Map], None],
        on_output: Callable[[Map], None],
    ) -> None:
        super().__init__()
        self.on_input, self.on_output = on_input, on_output
        self.gains = set[str]()  # parameters that may scale units: 1-D
        self.vectors = set[str]()  # parameters that may be applied to one vector
        self.reads: Callable[[str], None] | None = None
        self.on_sum: Callable[[Cell, int, Tensor], None] | None = None
        self.sums = Sums(cells(model))
        self.parts = Parts(model)
        self.find = self.parts.find
        self.waiting: dict[int, Map] = {}
        self.turns = Counter[tuple[Any, ...]]()

    def forget(self) -> None:
        """Finish what waits for a bias, and drop all that was held of this batch."""
        for waiting in list(self.waiting.values()):
            self._done(waiting)
        self.waiting.clear()
        self.sums.forget()
        self.parts.forget()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self._note(args, kwargs)
        if func in FUSED:
            self._fused(args)
        read = self._read(args) if self.waiting else []
        added = self._added(func, args, kwargs, read) if len(read) == 1 else None
        if read and added is None and func._schema.is_mutable:
            self._finish(read)
            read = []
        out = func(*args, **kwargs)
        if added is not None:
            (bias, axis), told = added, self.waiting.pop(read[0])
            own = self.find(bias)
            name = own.name if own else None
            bias = bias.reshape(-1)
            self._done(replace(told, z=out, z_axis=axis, bias=bias, bias_name=name))
        elif read:
            made = {storage(t) for t in _flat([out])}
            self._finish([key for key in read if key not in made])
        if self.on_sum and self.sums.terms:
            for cell, gate, z in self.sums.seen(func, args, out):
                self.on_sum(cell, gate, z)
        if func in COPIES:
            self.parts.copy(args[0], out)
        elif func in SEEN:
            for found in SEEN[func](self, out, *args, **kwargs):
                self._tell(found)
        return out

    def _done(self, found: Map) -> None:
        """Tell of z with its bias."""
        self.sums.note(found.weight, found.z)
        self.on_output(found)

    def _note(self, args: Any, kwargs: Any) -> None:
        """Tell of the parameters that an operation reads."""
        for t in _flat([*args, *kwargs.values()]) if self.reads else ():
            if (part := self.find(t)) and self.reads:
                self.reads(part.name)

    def _tell(self, found: Map) -> None:
        use = (found.weight, found.kind, found.rows, found.transposed)
        found = replace(found, turn=self.turns[use])
        self.turns[use] += 1
        if found.x is not None:
            self.on_input(found)
        if found.bias is None and found.kind != "embedding":
            self.waiting[storage(found.z)] = found
        else:
            self._done(found)

    def _read(self, args: Any) -> list[int]:
        keys = dict.fromkeys(storage(t) for t in _flat(args))
        return [key for key in keys if key in self.waiting]

    def _finish(self, keys: Iterable[int]) -> None:
        for key in keys:
            self._done(self.waiting.pop(key))

    def _fused(self, args: Any) -> None:
        """Add the biases that CUDA's recurrent cells add to the gates themselves."""
        told: list[Map] = []
        for gates, bias in ((args[0], args[3]), (args[1], args[4])):
            found = self.waiting.pop(storage(gates), None)
            own = self.find(bias)
            if found is not None and own is not None:
                z = found.z + bias
                found = replace(found, z=z, bias=bias, bias_name=own.name)
            if found is not None:
                told.append(found)
                self._done(found)
        if self.on_sum and len(told) == 2:
            for cell, gate, z in self.sums.added(told[0].weight, *(m.z for m in told)):
                self.on_sum(cell, gate, z)

    def _added(
        self, func: Any, args: Any, kwargs: Any, read: list[int]
    ) -> tuple[Tensor, int] | None:
        """Return what parameter is added to the z that waits, and the axis of units."""
        if func not in ADDS or kwargs:
            return None
        told = self.waiting[read[0]]
        pairs = [args[:2], args[1::-1]][: 1 if func is aten.add_.Tensor else 2]
        for z, bias in pairs:
            if not (isinstance(z, Tensor) and isinstance(bias, Tensor)):
                continue
            if storage(z) != read[0] or bias.numel() != told.units:
                continue
            axis = _units_in(z, told)
            if axis is None or bias.ndim < -axis or not self.find(bias):
                continue
            if bias.shape[axis] == told.units:
                return bias, axis
        return None

    def product(
        self, out: Tensor, x: Tensor, w: Tensor, bias: Tensor | None = None
    ) -> Iterator[Map]:
        """Yield the map of x @ w, or of w @ x where w stands to the left."""
        for weight, left in ((w, False), (x, True)):
            part = self.find(weight)
            if part is None:
                continue
            other, z = (w, out) if left else (x, out)
            if self.find(other) and part.name not in self.vectors:
                continue  # a weight in the making, as of LoRA
            if other.ndim == 1 or weight.ndim == 1:
                if weight.ndim == 1 or part.name not in self.vectors:
                    return
                other, z = other[:, None] if left else other[None], out[None]
                z = z.T if left else z
            matrix = weight.transpose(-1, -2) if left else weight
            if matrix.ndim == 3:
                if len(matrix) > 1 and matrix.stride(0):
                    return
                matrix = matrix[0]
            yield self._linear(part, matrix, other, z, -2 if left else -1, bias)
            return

    def _linear(
        self, part: Part, w: Tensor, x: Tensor, z: Tensor, axis: int, bias: Any
    ) -> Map:
        """Describe a map by w of shape (in, out), which is a view of a parameter."""
        fan_in, units = w.shape
        turned = w.stride(1) != part.step if units > 1 else False
        if units == 1 and fan_in > 1:
            turned = w.stride(0) == part.step
        whole = w.numel() == part.parameter.numel()
        from_start = int(w.storage_offset()) - part.start
        low = from_start // part.step if not turned else from_start % part.step
        own = self.find(bias)
        if bias is not None and bias.numel() not in {1, units}:
            z, bias = z - bias, None  # not a bias but another summand
        return Map(
            weight=part.name,
            kind="map",
            units=units,
            fan_in=fan_in,
            z=z,
            z_axis=axis,
            x=x,
            x_axis=axis,
            rows=None if whole else (low, low + units),
            transposed=turned,
            bias=bias,
            bias_name=own.name if own else None,
        )

    def convolution(
        self, out: Tensor, x: Tensor, w: Tensor, bias: Any, *options: Any
    ) -> Iterator[Map]:
        """Yield the map of a convolution; features and units are channels."""
        part, own = self.find(w), self.find(bias)
        if part is None:
            return
        turned, groups = bool(options[3]), int(options[5])
        whole = w.numel() == part.parameter.numel()
        low = (int(w.storage_offset()) - part.start) // part.step
        yield Map(
            weight=part.name,
            kind="map",
            units=out.shape[1],
            fan_in=w[:, 0].numel() // groups if turned else w[0].numel(),
            z=out,
            z_axis=1,
            x=x,
            x_axis=1,
            rows=None if whole else (low, low + len(w)),
            transposed=turned,
            convolution=True,
            groups=groups,
            bias=bias,
            bias_name=own.name if own else None,
        )

    def table(self, out: Any, w: Tensor, *_: Any, **__: Any) -> Iterator[Map]:
        """Yield the rows that an embedding looked up."""
        part = self.find(w)
        if part is not None and w.ndim == 2:
            z = out[0] if isinstance(out, tuple) else out
            yield Map(
                weight=part.name,
                kind="embedding",
                units=w.shape[1],
                fan_in=w.shape[0],
                z=z,
                z_axis=-1,
                transposed=True,
            )

    def norm(self, out: Any, w: Any, bias: Any, axis: int) -> Iterator[Map]:
        """Yield what a norm with a gain gives."""
        part, own = self.find(w), self.find(bias)
        if part is None:
            return
        z = out[0] if isinstance(out, tuple) else out
        z = z if w.ndim == 1 else z.flatten(-w.ndim)
        yield Map(
            weight=part.name,
            kind="norm",
            units=w.numel(),
            fan_in=1,
            z=z,
            z_axis=axis,
            bias=None if bias is None else bias.reshape(-1),
            bias_name=own.name if own else None,
        )

    def gain(self, out: Tensor, a: Any, b: Any) -> Iterator[Map]:
        """Yield a product with a gain that is known to be a norm's."""
        for w, x in ((a, b), (b, a)):
            part = self.find(w)
            if part is None or part.name not in self.gains or w.ndim != 1:
                continue
            if isinstance(x, Tensor) and out.ndim and out.shape[-1] == len(w):
                yield from self.norm(out, w, None, -1)
                return


def _units_in(z: Tensor, told: Map) -> int | None:
    """Return the axis of a view of the whole z, from its end, on which units lie."""
    step = told.z.stride(told.z_axis)
    for axis in range(-1, -z.ndim - 1, -1):
        same = told.units == 1 or z.stride(axis) == step
        if same and z.numel() == told.z.numel() and z.shape[axis] == told.units:
            return axis
    return None


def _flat(args: Any) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            if arg.layout == torch.strided:
                yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _flat(arg)


FUSED = {aten._thnn_fused_lstm_cell.default, aten._thnn_fused_gru_cell.default}
COPIES = {aten._to_copy.default, aten.clone.default}
ADDS = {aten.add.Tensor, aten.add_.Tensor}


def _biased(
    maps: Maps,
    out: Tensor,
    bias: Any,
    x: Tensor,
    w: Tensor,
    *,
    beta: Any = 1,
    **_: Any,
) -> Iterator[Map]:
    for found in maps.product(out, x, w, bias * beta if beta != 1 else bias):
        own = maps.find(bias) if found.bias is not None else None
        yield replace(found, bias_name=own.name if own else None)


def _linear(
    maps: Maps, out: Tensor, x: Tensor, w: Tensor, bias: Any = None
) -> Iterator[Map]:
    return maps.product(out, x, w.T, bias)


def _norm_at(
    weight: int, axis: int, *, biased: bool = True
) -> Callable[..., Iterator[Map]]:
    """Return a reader of a norm whose weight, then bias, are these arguments."""

    def read(maps: Maps, out: Any, *args: Any) -> Iterator[Map]:
        return maps.norm(out, args[weight], args[weight + 1] if biased else None, axis)

    return read


SEEN: dict[Any, Callable[..., Iterator[Map]]] = {
    aten.mm.default: Maps.product,
    aten.bmm.default: Maps.product,
    aten.mv.default: Maps.product,
    aten.matmul.default: Maps.product,  # this and linear: left whole in inference mode
    aten.linear.default: _linear,
    aten.addmm.default: _biased,
    aten.addmv.default: _biased,
    aten.baddbmm.default: _biased,
    aten.convolution.default: Maps.convolution,
    aten.embedding.default: Maps.table,
    aten._embedding_bag.default: Maps.table,
    aten.mul.Tensor: Maps.gain,
    aten.native_layer_norm.default: _norm_at(2, -1),
    aten.native_group_norm.default: _norm_at(1, 1),
    aten.native_batch_norm.default: _norm_at(1, 1),
    aten.cudnn_batch_norm.default: _norm_at(1, 1),
    aten._fused_rms_norm.default: _norm_at(2, -1, biased=False),
}
