"""What the output's bias could gain, measured through the user's own loss."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isclose, isfinite, prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from plumbob.survey.curve import Curve
from plumbob.survey.links import linked
from plumbob.survey.outcome import Asked, NotMeasuredError, again, has_rows
from plumbob.types import Output, Site

_WIDEST = 4096  # units of the output
_AT_MOST = 1 << 20  # numbers of z that are looked at
_FEWEST = 8  # samples


def output_facts(
    net_inputs: Sequence[tuple[Site, Tensor]],
    outputs: Any,
    targets: Any,
    loss: Callable[..., Any],
) -> tuple[Output | None, dict[str, str]]:
    """Return the loss at four constants of the output, found through the loss itself.

    Why:
        No formula for the best bias is trusted: pos_weight, class weights, smoothing
        and custom terms all move it. The shift s that minimises
        loss(link(z + s), targets) is searched numerically, where `link` is the
        function, recognised by its values, that makes the outputs of z. Where none
        fits, or there is no z, the outputs themselves are shifted and `site` is None.

        Of a tuple, a dict or a ModelOutput what the loss reads is shifted, which must
        be a single tensor or all be made of the z of one site; the rest is held.

    Args:
        net_inputs: sites that give outputs, with their z for all samples.
        outputs: what the model returned: a tensor, or any tree of them.
        targets: a tensor, or a tuple, list or dict of tensors, samples first.
        loss: called as `loss(outputs, targets)`; a mean or a sum over samples, told
            apart by doubling the batch. Nothing of its own is changed.

    Returns:
        The facts, or None with the reason under "targets".
    """
    try:
        with warnings.catch_warnings():  # the loss has warned when the batches ran
            warnings.simplefilter("ignore")
            return _facts(net_inputs, outputs, targets, loss), {}
    except NotMeasuredError as reason:
        return None, {"targets": str(reason)}


def _facts(
    net_inputs: Sequence[tuple[Site, Tensor]],
    outputs: Any,
    targets: Any,
    loss: Callable[..., Any],
) -> Output:
    leaves = pytree.tree_leaves(targets)
    first = leaves[0] if leaves else None
    samples = len(first) if isinstance(first, Tensor) and first.ndim else 0
    if not leaves or not all(has_rows(t, samples) for t in leaves):
        raise NotMeasuredError(
            "the targets are not tensors with one row for each sample"
        )
    ask = Asked.of(loss, outputs, targets, samples)
    read = ask.read()
    kept = min(samples, _AT_MOST // max(1, *(ask.parts[i][:1].numel() for i in read)))
    if kept < _FEWEST:
        raise NotMeasuredError(f"fewer than {_FEWEST} samples")
    ask = ask.first(kept)
    outputs, leaves = ask.parts[read[0]], ask.targets
    _no_order(leaves)
    head = _head(net_inputs, samples, {i: ask.parts[i] for i in read}, leaves[0])
    units = head.z.shape[head.axis]
    if units > _WIDEST:
        raise NotMeasuredError(f"{units} units at the output; {_WIDEST} are searched")
    curve = _curve(head, ask)
    zero = Curve(torch.zeros_like(curve.z), curve.axis, curve.loss)
    try:
        (shift, shifted), (best, constant) = curve.lowest(), zero.lowest()
    except Exception as error:  # the user's own code may raise anything
        raise NotMeasuredError(again(error)) from error
    here, origin = (c.height(torch.zeros_like(best)) for c in (curve, zero))
    if -inf in {shifted, constant}:
        raise NotMeasuredError("the loss keeps falling as the output is shifted")
    chance = max(curve.chance(shift), zero.chance(best))
    if not all(map(isfinite, (here, shifted, origin, constant, chance))):
        raise NotMeasuredError("the loss or its gradient is not finite")
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
        NotMeasuredError: all are the same, or neighbours are half as often different
            as in random order, so they come sorted.
    """
    if len(targets) != 1 or targets[0].numel() != len(targets[0]):
        return
    values = targets[0].flatten()
    counts = values.unique(return_counts=True)[1].double()
    if len(counts) == 1:
        raise NotMeasuredError("all targets are the same; give data that has others")
    expected = (len(values) - 1) * float(1 - (counts / counts.sum()).square().sum())
    changes = int((values[1:] != values[:-1]).sum())
    if expected > _FEWEST and changes < expected / 2:
        raise NotMeasuredError(
            "the samples come sorted by target, so a part of them does not have the "
            "shares of the whole; shuffle them"
        )


@dataclass(frozen=True)
class _Head:
    """z with its axis of units, and how parts of the output are made of it."""

    z: Tensor
    axis: int
    output_axis: int
    made: Mapping[int, Callable[[Tensor], Tensor]]
    site: str | None


def _head(
    net_inputs: Sequence[tuple[Site, Tensor]],
    samples: int,
    read: Mapping[int, Tensor],
    target: Tensor,
) -> _Head:
    """Find the z of which all is made that the loss reads; else take that itself.

    Raises:
        NotMeasuredError: it is several tensors, not made of one z, or two z fit.
    """
    found: list[_Head] = []
    kept = len(next(iter(read.values())))
    for site, net in net_inputs:
        z = _rows(net, samples, kept)
        axis = 1 if site.kind.startswith("conv") else -1
        links = {
            i: linked(z, axis, part, first=site.activation or "identity")
            for i, part in read.items()
            if z.numel() == part.numel()
        }
        made = {i: link for i, link in links.items() if link is not None}
        if len(made) == len(read):
            at = next(iter(made.values())).axis
            views = {i: link.made for i, link in made.items()}
            found.append(_Head(z, axis, at, views, site.name))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(head.site) for head in found)
        raise NotMeasuredError(f"the output may be that of several maps: {names}")
    if len(read) > 1:
        raise NotMeasuredError(
            f"the loss reads {len(read)} parts of the output, and no one map makes all"
        )
    ((i, outputs),) = read.items()
    if outputs.ndim == 1:
        return _Head(outputs[:, None], -1, -1, {i: lambda a: a[:, 0]}, None)
    labels = outputs.ndim == 3 and not target.is_floating_point()
    classes_first = labels and target.shape[1:] == outputs.shape[2:]
    axis = 1 if outputs.ndim == 4 or classes_first else -1
    return _Head(outputs, axis, axis, {i: lambda a: a}, None)


def _rows(z: Tensor, samples: int, kept: int) -> Tensor:
    """Return z of the first samples, whose positions may be flattened into rows."""
    z = z[:, None] if z.ndim == 1 else z
    if len(z) != samples and z.numel() % (samples * z.shape[-1]) == 0:
        z = z.reshape(samples, -1, z.shape[-1])
    return z[:kept].detach()


def _curve(head: _Head, ask: Asked) -> Curve:
    """Return the loss over z, in float64 unless the loss refuses it.

    Raises:
        NotMeasuredError: it refuses float32 too, or is no mean or sum over samples.
    """
    why = ""
    for dtype in (torch.float64, torch.float32):
        z = head.z.to(dtype)
        total = partial(_total, head=head, ask=ask.in_precision(dtype))
        try:
            with torch.enable_grad():
                probe = z.clone().requires_grad_()
                once = total(probe)
                torch.autograd.grad(once, probe)
            one, two = float(once.detach()), float(total(z, times=2).detach())
        except NotMeasuredError:
            raise
        except Exception as error:  # the user's own code may raise anything
            why = again(error)
            continue
        if not isfinite(one):
            raise NotMeasuredError("the loss is not finite")
        if isclose(one, two, rel_tol=1e-3):
            return Curve(z, head.axis, total)
        if isclose(2 * one, two, rel_tol=1e-3):
            return Curve(z, head.axis, partial(total, share=1 / len(z)))
        raise NotMeasuredError("the loss is neither a mean nor a sum over samples")
    raise NotMeasuredError(why)


def _total(
    z: Tensor, *, head: _Head, ask: Asked, times: int = 1, share: float = 1.0
) -> Tensor:
    """Return a share of the user's loss of the whole batch, repeated so many times."""
    made = {i: make(z) for i, make in head.made.items()}
    return ask.value(made, times) * share


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
