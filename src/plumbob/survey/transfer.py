"""The transfer rules: what each aten operation makes of a finite additive shift."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from plumbob.survey.amounts import amount, cancels
from plumbob.survey.carry import CARRY
from plumbob.survey.domain import (
    End,
    Fate,
    Op,
    Shift,
    broadcast,
    channels,
    dims,
    first,
    move,
    name,
    plain,
    shape,
    spread,
    statistics,
)
from plumbob.survey.ends import ENDS
from plumbob.survey.ranks import RANKS

# exp is 0 below -745 in float64 and sooner in narrower formats. Softmax subtracts the
# largest score first, so this fill has no weight unless all scores are below -9e3.
LOWEST = -1e4


def transfer(op: Op) -> Fate:
    """Return what an operation makes of the shifts of its arguments.

    An operation that has no rule, or whose rule does not cover the case, returns
    shifts of which nothing is known.
    """
    rule = RULES.get(name(op.node))
    fate = rule(op) if rule else None
    fate = op.unknown() if fate is None else fate
    if isinstance(fate, list):
        return [_named(op, part, i) for i, part in enumerate(fate)]
    return _named(op, fate)


def _named(op: Op, fate: Fate, index: int = 0) -> Fate:
    if not isinstance(fate, Shift):
        return fate
    named = amount(op, fate, index)
    return fate if named is fate.amount else replace(fate, amount=named)


def floats(node: fx.Node) -> bool:
    """Return whether a node holds floating-point numbers."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


# Arithmetic


def _keep(op: Op) -> Fate:
    return op.only("self") if floats(op.node) else None


def _add(op: Op) -> Fate:
    if cancels(op):
        return End("difference", "it is subtracted from itself, so nothing is left")
    return _union(op, [op.shift("self"), op.shift("other")])


def _union(op: Op, shifts: Sequence[Shift | None]) -> Fate:
    """Add shifts that meet; nothing is known of cancellation."""
    parts = [broadcast(s, op.shape) for s in shifts if s is not None]
    if len(parts) == 1:
        return parts[0]
    varies = {a for s in parts for a in s.varies}
    depends = any(s.depends for s in parts)
    return plain(op.shape, varies, depends, any(s.asked for s in parts))


def _mul(op: Op) -> Fate:
    a, b = op.arguments["self"], op.arguments["other"]
    if op.shift("self") is None and name(op.node) != "div":
        a, b = b, a
    shift = op.shifts.get(a)
    if not isinstance(shift, Shift) or len(op.moved()) > 1 or a is b:
        return None
    if op.arguments.get("rounding_mode") is not None:
        return None
    return _scaled(op, broadcast(shift, op.shape), b)


def _scaled(op: Op, shift: Shift, other: Any) -> Shift:
    """Multiply a shift by an unshifted number or tensor."""
    if not isinstance(other, fx.Node):
        return shift
    extra = spread(shape(other), op.shape)
    axes = tuple(
        tuple((n, v or i in extra) for n, v in f) for i, f in enumerate(shift.axes)
    )
    return replace(shift, axes=axes, depends=shift.depends or other in op.depends)


def _where(op: Op) -> Fate:
    """A mask. -inf is unmoved by any shift, so what is filled with it is no change.

    A finite fill counts as -inf where only softmax reads it and its weight there is
    exactly 0, as `LOWEST` says; log_softmax shows the fill itself.
    """
    if "mask" in op.arguments:  # masked_fill
        shift, mask = op.only("self"), op.arguments["mask"]
        fill = _number(op.arguments["value"])
    else:
        mask = op.arguments["condition"]
        side = "self" if op.shift("self") is not None else "other"
        shift = op.only(side)
        fill = _number(op.arguments["other" if side == "self" else "self"])
    if shift is None:
        return None
    whole = broadcast(shift, op.shape)
    if fill is not None and (fill == -torch.inf or (fill <= LOWEST and _softmaxed(op))):
        return whole
    return _scaled(op, whole, mask)


def _number(value: Any) -> float | None:
    """Return a constant, also where it is a node that makes one."""
    if isinstance(value, fx.Node):
        at = {"full": 1, "full_like": 1, "scalar_tensor": 0}.get(name(value))
        value = None if at is None else value.args[at]
    return float(value) if isinstance(value, int | float) else None


def _softmaxed(op: Op) -> bool:
    kinds = {"softmax", "_softmax", "_safe_softmax"}
    return all(name(user) in kinds for user in op.node.users)


def _reduce(op: Op) -> Fate:
    shift = op.only("self")
    if shift is None:
        return None
    count = len(shift.axes)
    gone = dims(op.arguments.get("dim"), count)
    keep = [i for i in range(count) if i not in gone]
    if not op.arguments.get("keepdim"):
        return move(shift, keep)
    axes = tuple(f if i in keep else ((1, False),) for i, f in enumerate(shift.axes))
    return replace(
        shift, axes=axes, within=tuple(w for w in shift.within if w[0] in keep)
    )


def _same_order(op: Op) -> Fate:
    """Indices move along axes (flip, roll): the same where s does not vary there.

    A roll without axes moves all values as one row.
    """
    shift = op.only("self")
    if shift is None or (shift.varies and not op.arguments["dims"]):
        return None
    return plain(op.shape, shift.varies, shift.depends, shift.asked)


# Affine maps


def _linear(op: Op) -> Fate:
    weight, last = op.arguments["weight"], len(op.shape) - 1
    if op.shift("weight") is not None:
        return _weighted(op, last, 0)
    return _union(op, [_mapped(op, op.shift("input"), weight), op.shift("bias")])


def _weighted(op: Op, units: int, axis: int) -> Fate:
    """Say what a shifted weight adds: along its units what it varies along them."""
    weight = op.only("weight")
    if weight is None:
        return None
    whole = plain(op.shape, range(len(op.shape)))
    axes = list(whole.axes)
    axes[units] = weight.axes[axis]
    within = tuple((units, lo, hi) for a, lo, hi in weight.within if a == axis)
    return replace(whole, axes=tuple(axes), within=within)


def _mapped(op: Op, shift: Shift | None, weight: Any) -> Shift | None:
    """Carry a shift of the input through z = W x, over the last axis."""
    if shift is None:
        return None
    last = len(shift.axes) - 1
    return replace(
        shift,
        axes=(*shift.axes[:-1], ((op.shape[-1], True),)),
        within=tuple(w for w in shift.within if w[0] != last),
        depends=shift.depends or weight in op.depends,
    )


def _product(first: str, second: str, plus: str = "") -> Callable[[Op], Fate]:
    """Make the rule of a matrix product of two arguments, plus a third."""

    def rule(op: Op) -> Fate:
        x, y = op.arguments[first], op.arguments[second]
        sx, sy = op.shift(first), op.shift(second)
        if min(len(shape(x)), len(shape(y))) < 2 or (sx and sy) or x is y:
            return None
        moved = None
        if sx is not None:
            moved = _times(op, sx, y, keeps=-2, fills=-1)
        if sy is not None:
            alike = (len(sy.axes) - 2) not in sy.varies
            if alike and op.sums.get(x) == len(shape(x)) - 1:
                axes = (*sy.axes[:-2], ((op.shape[-2], False),), sy.axes[-1])
                moved = broadcast(replace(sy, axes=axes), op.shape)
            else:
                moved = _times(op, sy, x, keeps=-1, fills=-2)
        return _union(op, [moved, op.shift(plus)])

    return rule


def _times(op: Op, shift: Shift, other: fx.Node, *, keeps: int, fills: int) -> Shift:
    """Multiply by a matrix: one axis of the shift stays, the other's fills in."""
    count = len(op.shape)
    lead = count - len(shift.axes)
    varies = {a + lead for a in shift.varies if a + lead < count - 2}
    varies |= {a for a in spread(shape(other), op.shape) if a < count - 2}
    varies |= {count + fills}
    if len(shift.axes) + keeps in shift.varies:
        varies |= {count + keeps}
    return plain(op.shape, varies, shift.depends or other in op.depends, True)


def _conv(op: Op) -> Fate:
    weight = op.arguments["weight"]
    spatial = len(shape(weight)) - 2
    channel = len(op.shape) - spatial - 1
    x, bias = op.shift("input"), op.shift("bias")
    transposed = op.arguments.get("transposed") or "transpose" in name(op.node)
    if op.shift("weight") is not None:
        # each group of channels reads inputs of its own
        alone = op.arguments["groups"] == 1
        return _weighted(op, channel, 1 if transposed else 0) if alone else None
    moved = None
    if x is not None:
        if transposed:
            return None
        varies = set(x.varies) | {channel}
        if _nonzero(op.arguments.get("padding")):
            varies |= set(range(channel + 1, len(op.shape)))
        moved = plain(op.shape, varies, x.depends or weight in op.depends)
    return _union(op, [moved, bias and channels(op, bias, channel)])


def _nonzero(padding: Any) -> bool:
    """Return whether a padding, as a number, numbers or a word, adds anything."""
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, list | tuple) else bool(padding)


# Pooling, dropout, padding


def _dropout(op: Op) -> Fate:
    x = op.only("input")
    args = op.arguments
    if x is None or (args["train"] is not False and args["p"] != 0):
        return None
    return statistics(op, x)


def _pool(op: Op) -> Fate:
    x = op.only("input" if "input" in op.arguments else "self")
    one = first(op)
    if x is None:
        return None
    count, args = len(one.shape), op.arguments
    spatial = set(range(count - _DIGIT[name(op.node)], count))
    counted = args.get("count_include_pad") and _nonzero(args["padding"])
    if spatial & x.varies or counted or args.get("divisor_override"):
        return None
    return statistics(op, plain(one.shape, x.varies, x.depends, x.asked))


def _pad(op: Op) -> Fate:
    x, pad = op.only("self"), op.arguments["pad"]
    if x is None:
        return None
    count = len(op.shape)
    padded = {count - 1 - i // 2 for i, n in enumerate(pad) if n}
    return plain(op.shape, x.varies | padded, x.depends, x.asked)


_POOLS = ("max_pool", "avg_pool", "adaptive_avg_pool", "_adaptive_avg_pool")
_DIGIT = {f"{pool}{n}d": n for pool in _POOLS for n in (1, 2, 3)} | {
    "max_pool2d_with_indices": 2,
    "max_pool3d_with_indices": 3,
    "upsample_nearest1d": 1,
    "upsample_linear1d": 1,
    "upsample_nearest2d": 2,
    "upsample_bilinear2d": 2,
    "upsample_bicubic2d": 2,
    "upsample_nearest3d": 3,
    "upsample_trilinear3d": 3,
}

RULES: dict[str, Callable[[Op], Fate]] = {
    **CARRY,
    **dict.fromkeys(("clone", "contiguous", "to", "_to_copy", "alias"), _keep),
    **dict.fromkeys(("detach", "neg", "lift_fresh_copy", "type_as"), _keep),
    **dict.fromkeys(("add", "sub", "rsub"), _add),
    **dict.fromkeys(("mul", "div"), _mul),
    **dict.fromkeys(("where", "masked_fill"), _where),
    **dict.fromkeys(("mean", "sum"), _reduce),
    **dict.fromkeys(("flip", "roll"), _same_order),
    "linear": _linear,
    "matmul": _product("self", "other"),
    **dict.fromkeys(("bmm", "mm"), _product("self", "mat2")),
    "addmm": _product("mat1", "mat2", "self"),
    "baddbmm": _product("batch1", "batch2", "self"),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _conv),
    **{f"conv_transpose{n}d": _conv for n in (1, 2, 3)},
    **ENDS,
    **RANKS,
    **dict.fromkeys(("dropout", "native_dropout"), _dropout),
    **dict.fromkeys(_DIGIT, _pool),
    "constant_pad_nd": _pad,
}
