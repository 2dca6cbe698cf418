"""Sees every affine map that a model computes, whatever module computes it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from plumbob.survey.graph import canonical

aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where in memory a parameter, or a copy of it, lies.

    `step` is the distance in memory of two neighbours on the parameter's first axis.
    """

    name: str
    parameter: Tensor
    start: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """One computation of z: inputs x with features on `x_axis`, z likewise.

    `kind` is "map", "embedding" or "norm"; `rows` the units of the parameter that
    are used, where these are not all; `bias` what was added.
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


def storage(t: Tensor) -> int:
    """Return what identifies the memory behind a tensor."""
    return t.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


class Maps(TorchDispatchMode):
    """Tells of each map as it happens.

    Of its input at once, before any in-place operation can change it, and of z then
    too, or after the bias that is added next.

    A bias counts as added next if the first operation that reads z (views apart)
    adds a parameter along the units. Copies of a parameter (a cast by autocast,
    `contiguous`) count as the parameter. A weight that is computed from parameters
    belongs to none and is not seen; nor is one matrix per sample or per expert. A
    single vector is seen only where the weight is in `vectors`: else it is a step of
    a power iteration (spectral norm).
    """

    def __init__(
        self,
        model: nn.Module,
        on_input: Callable[[Map], None],
        on_output: Callable[[Map], None],
    ) -> None:
        super().__init__()
        self.on_input, self.on_output = on_input, on_output
        first = canonical(model)
        self.gains = set[str]()  # parameters that may scale units: 1-D
        self.vectors = set[str]()  # parameters that may be applied to one vector
        self.parts: dict[int, list[Part]] = {}
        every = dict(model.named_parameters(remove_duplicate=False))
        for name in dict.fromkeys(first.values()):
            p = every[name]
            if 0 in p.stride():  # expanded: its rows are one and the same
                continue
            step = p.stride(0) if p.ndim else 1
            place = Part(
                name=name, parameter=p, start=int(p.storage_offset()), step=int(step)
            )
            self.parts.setdefault(storage(p), []).append(place)
        self.copies: dict[int, tuple[Part, Tensor]] = {}
        self.waiting: dict[int, Map] = {}

    def find(self, t: Any) -> Part | None:
        """Return the parameter that a tensor is, or is a part or a copy of."""
        if not isinstance(t, Tensor) or t.layout != torch.strided:
            return None
        key = storage(t)
        if key in self.copies:
            return self.copies[key][0]
        for part in self.parts.get(key, ()):
            if (
                0
                <= int(t.storage_offset()) - part.start
                < max(1, part.parameter.numel())
            ):
                return part
        return None

    def forget(self) -> None:
        """Finish what waits for a bias, and drop all that was held of this batch."""
        for waiting in list(self.waiting.values()):
            self.on_output(waiting)
        self.waiting.clear()
        self.copies.clear()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in FUSED:
            self._fused(args)
        read = self._read(args) if self.waiting else []
        added = self._added(func, args, kwargs, read) if len(read) == 1 else None
        if read and added is None and func._schema.is_mutable:
            self._finish(read)
            read = []
        out = func(*args, **kwargs)
        if added is not None:
            key, bias = read[0], self.find(added)
            told = self.waiting.pop(key)
            self.on_output(
                replace(
                    told,
                    z=out,
                    z_axis=_from_end(told),
                    bias=added.reshape(-1),
                    bias_name=bias.name if bias else None,
                )
            )
        elif read:
            made = {storage(t) for t in _flat([out])}
            self._finish([key for key in read if key not in made])
        if func in COPIES:
            self._copy(args[0], out)
        elif func in SEEN:
            for found in SEEN[func](self, out, *args, **kwargs):
                self._tell(found)
        return out

    def _tell(self, found: Map) -> None:
        if found.x is not None:
            self.on_input(found)
        if found.bias is None and found.kind != "embedding":
            self.waiting[storage(found.z)] = found
        else:
            self.on_output(found)

    def _read(self, args: Any) -> list[int]:
        keys = dict.fromkeys(storage(t) for t in _flat(args))
        return [key for key in keys if key in self.waiting]

    def _finish(self, keys: Iterable[int]) -> None:
        for key in keys:
            self.on_output(self.waiting.pop(key))

    def _fused(self, args: Any) -> None:
        """Add the biases that CUDA's recurrent cells add to the gates themselves."""
        for gates, bias in ((args[0], args[3]), (args[1], args[4])):
            told = self.waiting.pop(storage(gates), None)
            own = self.find(bias)
            if told is not None and own is not None:
                told = replace(told, z=told.z + bias, bias=bias, bias_name=own.name)
            if told is not None:
                self.on_output(told)

    def _added(
        self, func: Any, args: Any, kwargs: Any, read: list[int]
    ) -> Tensor | None:
        """Return the parameter that is added along the units of the z that waits."""
        if func not in ADDS or kwargs:
            return None
        told = self.waiting[read[0]]
        axis = _from_end(told)
        pairs = [args[:2], args[1::-1]][: 1 if func is aten.add_.Tensor else 2]
        for z, bias in pairs:
            if not isinstance(bias, Tensor) or storage(z) != read[0]:
                continue
            whole = z.numel() == told.z.numel() and z.ndim >= -axis
            along = bias.ndim >= -axis and bias.shape[axis] == told.units
            if whole and along and z.shape[axis] == bias.numel() == told.units:
                return bias if self.find(bias) else None
        return None

    def _copy(self, source: Any, out: Tensor) -> None:
        part = self.find(source)
        if part is None or storage(out) == storage(source) or not out.ndim:
            return
        axes = [i for i, s in enumerate(source.stride()) if s == part.step]
        step = out.stride(axes[0]) if axes else part.step
        start = int(out.storage_offset()) - (int(source.storage_offset()) - part.start)
        self.copies[storage(out)] = replace(part, start=start, step=step), out

    def product(
        self, out: Tensor, x: Tensor, w: Tensor, bias: Tensor | None = None
    ) -> Iterator[Map]:
        """Yield the map of x @ w, or of w @ x where w stands to the left."""
        for weight, left in ((w, False), (x, True)):
            part = self.find(weight)
            if part is None:
                continue
            other, z = (w, out) if left else (x, out)
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


def _from_end(told: Map) -> int:
    return told.z_axis - told.z.ndim if told.z_axis >= 0 else told.z_axis


def _flat(args: Any) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            if arg.layout == torch.strided:
                yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _flat(arg)


COPIES = {aten._to_copy.default, aten.clone.default}
FUSED = {aten._thnn_fused_lstm_cell.default, aten._thnn_fused_gru_cell.default}
ADDS = {aten.add.Tensor, aten.add_.Tensor}


def _biased(
    maps: Maps, out: Tensor, bias: Tensor, x: Tensor, w: Tensor, **_: Any
) -> Iterator[Map]:
    return maps.product(out, x, w, bias)


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
