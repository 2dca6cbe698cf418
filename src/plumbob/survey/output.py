"""What the output's bias could gain, measured through the user's own loss."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import inf, isclose, isfinite, prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from plumbob.survey.curve import Curve
from plumbob.types import Output, Site

_WIDEST = 4096  # units of the output
_AT_MOST = 1 << 20  # numbers of z that are looked at
_FEWEST = 8  # samples

Link = Callable[[Tensor, int], Tensor]
View = Callable[[Tensor], Tensor]

_LINKS: dict[str, Link] = {
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


class _NotMeasuredError(Exception):
    """Why there are no facts about the output."""


def output_facts(
    net_inputs: Tensor | None,
    outputs: Any,
    targets: Any,
    loss: Callable[..., Any],
    site: Site | None,
) -> tuple[Output | None, dict[str, str]]:
    """Return the loss at four constants of the output, found through the loss itself.

    Why:
        No formula for the best bias is trusted: pos_weight, class weights, smoothing
        and custom terms all move it. The shift s that minimises
        loss(link(z + s), targets) is searched numerically, where `link` is the
        function, recognised by its values, that makes the outputs of z. Where none
        fits, or there is no z, the outputs themselves are shifted and `site` is None.

    Args:
        net_inputs: z of the output's site for all samples.
        outputs: what the model returned.
        targets: a tensor, or a tuple, list or dict of tensors, samples first.
        loss: called as `loss(outputs, targets)`; a mean or a sum over samples, told
            apart by doubling the batch. Nothing of its own is changed.
        site: whose z it is.

    Returns:
        The facts, or None with the reason under "targets".
    """
    try:
        with warnings.catch_warnings():  # the loss has warned when the batches ran
            warnings.simplefilter("ignore")
            return _facts(net_inputs, outputs, targets, loss, site), {}
    except _NotMeasuredError as reason:
        return None, {"targets": str(reason)}


def _facts(
    z: Tensor | None, outputs: Any, targets: Any, loss: Callable[..., Any], site: Any
) -> Output:
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        raise _NotMeasuredError("the model's output is not one tensor of numbers")
    samples = len(outputs) if outputs.ndim else 0
    leaves, form = pytree.tree_flatten(targets)
    if (
        not all(isinstance(t, Tensor) and len(t) == samples for t in leaves)
        or not leaves
    ):
        raise _NotMeasuredError(
            "the targets are not tensors with one row for each sample"
        )
    kept = min(samples, _AT_MOST // max(1, outputs[:1].numel()))
    if kept < _FEWEST:
        raise _NotMeasuredError(f"fewer than {_FEWEST} samples")
    outputs, leaves = outputs[:kept].detach(), [t[:kept].detach() for t in leaves]
    _no_order(leaves)
    head = _head(z, samples, outputs, leaves[0], site)
    units = head.z.shape[head.axis]
    if units > _WIDEST:
        raise _NotMeasuredError(f"{units} units at the output; {_WIDEST} are searched")
    curve = _curve(head, leaves, form, loss)
    zero = Curve(torch.zeros_like(curve.z), curve.axis, curve.loss)
    shift, shifted = curve.lowest()
    best, constant = zero.lowest()
    here, origin = (c.height(torch.zeros_like(best)) for c in (curve, zero))
    if -inf in {shifted, constant}:
        raise _NotMeasuredError("the loss keeps falling as the output is shifted")
    chance = max(curve.chance(shift), zero.chance(best))
    if not all(map(isfinite, (here, shifted, origin, constant, chance))):
        raise _NotMeasuredError("the loss or its gradient is not finite")
    target = _mean_target(leaves, outputs, head.output_axis, units)
    return Output(
        site=head.site,
        loss=here,
        shifted=shifted,
        zero=origin,
        constant=constant,
        shift=_centred(curve, shift, target),
        best=_centred(zero, best, target),
        mean_output=_per_unit(outputs, head.output_axis),
        mean_target=target,
        samples=kept,
        chance=chance,
        floor=zero.floor(),
    )


def _centred(curve: Curve, shift: Tensor, target: Any) -> Any:
    """Return a shift; its mean over the units in the targets is 0 where it is free.

    Softmax does not see what all its units share, so that a class that never occurs,
    whose best shift is -infinity, would send all others up.
    """
    values = shift.double().cpu().numpy()
    if target is None or not len(target) == len(values) > 1:
        return values
    moved = curve.height(shift + 1 + shift.abs().max())
    if not isclose(moved, curve.height(shift), rel_tol=1e-9):
        return values
    return values - values[target != 0].mean() if target.any() else values


def _no_order(targets: list[Tensor]) -> None:
    """Refuse targets whose shares are those of where the loader happened to stop.

    Raises:
        _NotMeasuredError: all are the same, or neighbours are half as often different
            as in random order, so they come sorted.
    """
    if len(targets) != 1 or targets[0].numel() != len(targets[0]):
        return
    values = targets[0].flatten()
    counts = values.unique(return_counts=True)[1].double()
    if len(counts) == 1:
        raise _NotMeasuredError("all targets are the same; give data that has others")
    expected = (len(values) - 1) * float(1 - (counts / counts.sum()).square().sum())
    changes = int((values[1:] != values[:-1]).sum())
    if expected > _FEWEST and changes < expected / 2:
        raise _NotMeasuredError(
            "the samples come sorted by target, so a part of them does not have the "
            "shares of the whole; shuffle them"
        )


@dataclass(frozen=True)
class _Head:
    """z with its axis of units, and how the output is made of it."""

    z: Tensor
    axis: int
    output_axis: int
    link: Callable[[Tensor], Tensor]
    site: str | None


def _head(
    z: Tensor | None, samples: int, outputs: Tensor, target: Tensor, site: Site | None
) -> _Head:
    """Find how the outputs come from z; else take the outputs themselves."""
    kept = len(outputs)
    if z is not None and site and z.numel() * kept == outputs.numel() * samples:
        if z.shape[0] != samples:  # positions flattened into rows
            z = z.reshape(samples, -1, z.shape[-1])
        z = z[:kept].detach()
        z = z[:, None] if z.ndim == 1 else z
        axis = 1 if site.kind.startswith("conv") else -1
        exact = {z.dtype, outputs.dtype} <= {torch.float32, torch.float64}
        close = 1e-4 if exact else 2e-2
        first = site.activation or "identity"  # a z of 0 fits tanh and identity
        for link, (view, at) in product(
            sorted(_LINKS, key=lambda name: name != first), _views(z, axis, outputs)
        ):
            made = partial(_made, link=_LINKS[link], axis=axis, view=view)
            if torch.allclose(
                made(z).to(outputs), outputs, rtol=close, atol=close * 1e-2
            ):
                return _Head(z, axis, at, made, site.name)
    if outputs.ndim == 1:
        return _Head(outputs[:, None], -1, -1, lambda a: a[:, 0], None)
    labels = outputs.ndim == 3 and not target.is_floating_point()
    classes_first = labels and target.shape[1:] == outputs.shape[2:]
    axis = 1 if outputs.ndim == 4 or classes_first else -1
    return _Head(outputs, axis, axis, lambda a: a, None)


def _made(z: Tensor, *, link: Link, axis: int, view: View) -> Tensor:
    return view(link(z, axis))


def _views(z: Tensor, axis: int, outputs: Tensor) -> Iterator[tuple[View, int]]:
    """Yield the ways in which z may be laid out in the outputs, and the units' axis."""
    shape = outputs.shape
    yield (lambda a: a.reshape(shape)), axis
    if axis == -1 and len(shape) > 2 and z.shape[-1] == shape[1]:
        rows = (shape[0], *shape[2:], shape[1])  # (N, T, C) handed on as (N, C, T)
        yield (lambda a: a.reshape(rows).movedim(-1, 1)), 1


def _curve(
    head: _Head, targets: list[Tensor], form: Any, loss: Callable[..., Any]
) -> Curve:
    """Return the loss over z, in float64 unless the loss refuses it.

    Raises:
        _NotMeasuredError: it refuses float32 too, or is no mean or sum over samples.
    """
    why = ""
    for dtype in (torch.float64, torch.float32):
        z = head.z.to(dtype)
        cast = [t.to(dtype) if t.is_floating_point() else t for t in targets]
        total = partial(_total, head=head, targets=cast, form=form, loss=loss)
        try:
            with torch.enable_grad():
                probe = z.clone().requires_grad_()
                once = total(probe)
                torch.autograd.grad(once, probe)
            one, two = float(once.detach()), float(total(z, times=2).detach())
        except _NotMeasuredError:
            raise
        except Exception as error:  # the user's own code may raise anything
            why = str(error).partition("\n")[0] or type(error).__name__
            continue
        if not isfinite(one):
            raise _NotMeasuredError("the loss is not finite")
        if isclose(one, two, rel_tol=1e-3):
            return Curve(z, head.axis, total)
        if isclose(2 * one, two, rel_tol=1e-3):
            return Curve(z, head.axis, partial(total, share=1 / len(z)))
        raise _NotMeasuredError("the loss is neither a mean nor a sum over samples")
    raise _NotMeasuredError(f"the loss cannot be taken again on shifted outputs: {why}")


def _total(
    z: Tensor,
    *,
    head: _Head,
    targets: list[Tensor],
    form: Any,
    loss: Callable[..., Any],
    times: int = 1,
    share: float = 1.0,
) -> Tensor:
    """Return a share of the user's loss of the whole batch, repeated so many times.

    Raises:
        _NotMeasuredError: it is not one number.
    """
    rows = [torch.cat([t] * times) for t in targets]
    value = loss(torch.cat([head.link(z)] * times), pytree.tree_unflatten(rows, form))
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise _NotMeasuredError("the loss is not one number")
    return value.reshape(()) * share


def _per_unit(values: Tensor, axis: int) -> Any:
    values = values.double()[:, None] if values.ndim == 1 else values.double()
    return values.movedim(axis, -1).flatten(0, -2).mean(0).cpu().numpy()


def _mean_target(targets: list[Tensor], outputs: Tensor, axis: int, units: int) -> Any:
    """Return the targets' mean per unit, or the shares of the classes."""
    if len(targets) != 1:
        return None
    (target,) = targets
    if target.shape == outputs.shape or (units == 1 and len(target) == target.numel()):
        return _per_unit(target.reshape(outputs.shape), axis)
    if target.is_floating_point() or target.numel() * units != prod(outputs.shape):
        return None
    known = target[(target >= 0) & (target < units)].flatten()
    if not known.numel():
        return None
    counts = torch.bincount(known, minlength=units).double()
    return (counts / counts.sum()).cpu().numpy()
