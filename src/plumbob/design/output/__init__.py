"""The bias with which an output starts at the prior of its targets."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.columns import columns
from plumbob.design.output.losses import BLIND, indexed, known
from plumbob.errors import InputError, did_you_mean, one_line
from plumbob.survey.batches import batches
from plumbob.survey.curve import Curve
from plumbob.survey.guard import same_random, untouched

_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class OptimalBias:
    """The best bias and how it comes about; `print` shows the terms.

    `terms` add up to `bias`; `high` ends the interval where a whole one is best.
    """

    bias: Float[Tensor, " units"]
    terms: Mapping[str, Float[Tensor, " units"]]
    note: str
    high: Float[Tensor, " units"] | None = None

    def __str__(self) -> str:
        """Return a table: a row for each unit, a column for each term."""
        shown = min(len(self.bias), 10)
        rows = [
            [
                str(i),
                *(f"{t[i]:.4g}" for t in self.terms.values()),
                f"{self.bias[i]:.4g}",
            ]
            for i in range(shown)
        ]
        head = ["unit", *self.terms, "bias"]
        table = columns(head, rows, right=range(len(head)))
        more = len(self.bias) - shown
        return f"{table}\n{self.note}" + (f"; {more} more units" if more else "")


def optimal_bias(
    loss: Callable[..., Any],
    targets: Any,
    *,
    units: int | None = None,
    weight: Any = None,
    offset: float | Tensor = 0.0,
    scores: Tensor | None = None,
) -> OptimalBias:
    """Return the constant output with the lowest loss on the targets.

    Why:
        It needs no learning: a net that starts elsewhere first spends its steps on
        carrying its output there, through all of its weights.

    torch's own losses are read by their type and settings and have a formula; any
    other callable, a subclass too, is minimised over the constant in float64.

    Args:
        loss: as the training loop calls it, `loss(outputs, targets)`, on scores.
        targets: class indices (N,) or (N, ...), or values (N,), (N, units), or
            (N, units, ...) where `scores` are so.
        units: of the output; by default as the targets or the scores have.
        weight: of the samples, (N,), for torch's own losses.
        offset: added, such as `prior.sampling.down_sampling(keep)` or a prior shift.
        scores: what the head gives without its bias, (N, units, ...). Where they
            vary, the best bias is not the formula's, and is found numerically.

    Raises:
        InputError: the shapes do not fit, the loss does not see a constant, or falls
            for ever.

    Example:
        >>> y = torch.tensor([1.0] + 99 * [0.0])
        >>> print(optimal_bias(nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0)), y))
        unit  log-odds  log pos_weight    bias
           0    -4.595           1.609  -2.986
        rate 0.01
    """
    y = torch.as_tensor(targets).detach()
    if not y.ndim or not len(y):
        raise InputError(
            f"expected targets of at least one sample, got {list(y.shape)}"
        )
    if y.is_floating_point() and not bool(y.isfinite().all()):
        raise InputError(f"expected finite targets, got nan or inf in {list(y.shape)}")
    w = None if weight is None else torch.as_tensor(weight).detach().double().cpu()
    if w is not None and (w.shape != y.shape[:1] or float(w.min()) < 0 or not w.sum()):
        raise InputError(
            f"expected a weight of 0 or more for each of {len(y)} samples, got "
            f"{list(w.shape)}"
        )
    class_loss = isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss))
    indices = not y.is_floating_point() and class_loss
    if units is None and scores is not None:
        units = scores.shape[1] if scores.ndim > 1 else 1
    if units is None:
        width = y.shape[1] if y.ndim > 1 else 1
        units = int(y.max()) + 1 if indices else width
    if (
        not indices
        and not _fits(y, units)
        and type(loss).__module__.startswith("torch.")
    ):
        raise InputError(
            f"expected targets (N, {units}) as the output has {units} units, got "
            f"{list(y.shape)}; for classes pass whole numbers to a class loss"
        )
    if scores is not None and len(scores) != len(y):
        raise InputError(
            f"expected scores of the {len(y)} samples of the targets, got "
            f"{list(scores.shape)}; pass those of the same batch"
        )
    varied = scores is not None and bool((scores != 0).any())
    found = None
    if not varied:
        flat = y.cpu()
        if indices:
            found = indexed(loss, flat, units, w)
        elif flat.ndim == 2 or units == 1 or not _broadcasts(loss):
            known_form = flat.movedim(1, -1) if flat.ndim > 2 else flat
            spread = known_form.numel() // units // len(y)
            every = None if w is None else w.repeat_interleave(spread)
            found = known(loss, known_form.double(), units, every)
    elif isinstance(loss, BLIND):
        known(loss, y, units, w)
    if found is not None:
        terms = {name: t.expand(units).clone() for name, t in found.terms.items()}
        note, high = found.note, found.high
    else:
        if w is not None:
            raise InputError(
                "expected weight= only for torch's own losses at zero scores, got it "
                f"for {_name(loss)}; weight the samples inside the loss"
            )
        terms = {"numerical": _numerical(loss, y, units, scores)}
        note, high = f"minimised through {_name(loss)}", None
        if varied:
            note += ", with the scores' spread"
    extra = torch.as_tensor(offset, dtype=torch.float64).cpu().reshape(-1)
    if bool((extra != 0).any()):
        if len(extra) not in {1, units}:
            raise InputError(
                f"expected an offset of 1 or {units} numbers, got {len(extra)}"
            )
        terms["offset"] = extra.expand(units).clone()
        high = None if high is None else high + extra
    bias = torch.stack(list(terms.values())).sum(0)
    if not bool(bias.isfinite().all()):
        raise InputError(f"the best bias under {_name(loss)} is not finite: {note}")
    return OptimalBias(bias=bias, terms=terms, note=note, high=high)


def _broadcasts(loss: Any) -> bool:
    """Whether weights of the loss's own lie along the last axis of dense outputs."""
    own = (getattr(loss, name, None) for name in ("weight", "pos_weight"))
    return any(isinstance(t, Tensor) and t.numel() > 1 for t in own)


def _fits(y: Tensor, units: int) -> bool:
    return y.shape[1] == units if y.ndim > 1 else units == 1


def _name(loss: Any) -> str:
    return getattr(loss, "__name__", type(loss).__name__)


def _numerical(
    loss: Callable[..., Any], y: Tensor, units: int, scores: Tensor | None
) -> Tensor:
    """Minimise the user's own loss in float64, or in float32 where it knows only that.

    Raises:
        _BrokeError: it fails, does not see the shift, or falls for ever.
    """
    try:
        return _minimum(loss, y, units, scores, torch.float64)
    except _BrokeError as error:
        if isinstance(loss, nn.Module):
            raise
        try:
            return _minimum(loss, y, units, scores, torch.float32)
        except _BrokeError:
            raise error from None


class _BrokeError(InputError):
    """The user's loss raised."""


def _minimum(
    loss: Callable[..., Any],
    y: Tensor,
    units: int,
    scores: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Minimise the loss over a shift of the scores.

    Raises:
        InputError: it does not see the shift, or falls for ever.
        _BrokeError: it fails.
    """
    if scores is None:
        flat = y.ndim == 1 and units == 1
        extra = y.shape[1:] if not y.is_floating_point() else y.shape[2:]
        shape = (len(y),) if flat else (len(y), units, *(extra if y.ndim > 1 else ()))
        if not y.is_floating_point() and y.shape[1:2] == (units,):
            shape = tuple(y.shape)
        z = torch.zeros(shape, dtype=dtype)
    else:
        z = scores.detach().to("cpu", dtype)
    own = copy.deepcopy(loss)  # its buffers may be of another precision or device
    own = own.double().cpu() if isinstance(own, nn.Module) else own
    aim = y.cpu()
    aim = aim.to(dtype) if aim.is_floating_point() else aim
    flat = z.ndim == 1
    z = z[:, None] if flat else z

    def total(x: Tensor) -> Tensor:
        value = own(x[:, 0] if flat else x, aim)
        if not isinstance(value, Tensor):
            raise InputError(f"expected one number, got {type(value).__name__}")
        return value.mean()

    curve = Curve(z, 1, total)
    try:
        with same_random():
            shift, low = curve.lowest()
            up = [
                curve.height(shift + step * torch.ones_like(shift)) for step in (1, -2)
            ]
    except Exception as error:  # the user's own code may raise anything
        raise _BrokeError(
            f"{_name(loss)} failed on outputs {list(z.shape)} and targets "
            f"{list(y.shape)}: {one_line(error)}; pass what the training loop feeds it"
        ) from error
    if not isfinite(low):
        raise InputError(
            f"{_name(loss)} keeps falling as the output is shifted, or is not finite; "
            "give targets that hold each class"
        )
    free = all(abs(u - low) <= 1e-9 * max(1.0, abs(low)) for u in up)
    if free and units == 1:
        raise InputError(
            f"{_name(loss)} does not see a constant added to the output (as Cox and "
            "ranking losses do not); its bias is free, leave it as it is"
        )
    return (shift - shift.mean() if free else shift).double()


@torch.no_grad()
def output_bias_(
    head: nn.Module | str,
    y: Any,
    *,
    loss: Callable[..., Any],
    model: nn.Module | None = None,
    data: Any = None,
    features: Tensor | None = None,
    weight: Any = None,
    offset: float | Tensor = 0.0,
) -> OptimalBias:
    """Write the best bias of an output map for its targets, in place.

    Exact where the head's weights are zero. Where they are not, and `features` or
    `model` and `data` are given, the bias is the one that is best beside the scores
    that the weights give: at a rate of 1 % and scores of deviation 1 it is -5.08, not
    -4.60. Without them it is the formula's, and the note says so.

    Args:
        head: a linear map or a convolution, or its path in `model`.
        y: the targets, see `optimal_bias`.
        loss: as the training loop calls it.
        model: what holds the head; with `data`, run once to see what the head reads.
        data: one batch of inputs, of the samples of `y`.
        features: what the head reads, for the samples of `y`.
        weight: of the samples, see `optimal_bias`.
        offset: added to the bias, see `optimal_bias`.

    Returns:
        The bias with the terms that it is made of.

    Raises:
        InputError: the head has no bias or is frozen, or the shapes do not fit.

    Example:
        >>> head, y = nn.Linear(3, 1), torch.tensor([1.0] + 99 * [0.0])
        >>> _ = nn.init.zeros_(head.weight)
        >>> _ = output_bias_(head, y, loss=nn.BCEWithLogitsLoss())
        >>> round(head.bias.item(), 3)
        -4.595
    """
    layer = _head(head, model)
    bias = layer.bias
    units = bias.numel()
    if data is not None and features is None:
        features = _features(layer, model, data)
    zero = not bool((layer.weight != 0).any())
    scores = None
    if features is not None and not zero:
        wide = features.detach().to(layer.weight.device, layer.weight.dtype)
        try:
            with same_random():
                # calling forward, no hook of the user's runs
                scores = layer.forward(wide).double()
        except RuntimeError as error:
            raise InputError(
                f"expected features that the head {list(layer.weight.shape)} reads, "
                f"got {list(features.shape)}: {one_line(error)}"
            ) from error
        if layer.weight.ndim == 2:
            scores = scores - bias.double()
            scores = scores.movedim(-1, 1) if scores.ndim > 2 else scores
        else:
            shape = (1, -1, *[1] * (layer.weight.ndim - 2))
            scores = scores - bias.double().view(shape)
        if units == 1 and torch.as_tensor(y).ndim == 1:
            scores = scores.reshape(len(scores))
    found = optimal_bias(
        loss, y, units=units, weight=weight, offset=offset, scores=scores
    )
    if scores is None and not zero:
        note = found.note + "; exact only at zero head weights: pass features="
        found = OptimalBias(found.bias, found.terms, note, found.high)
    if not bool(found.bias.to(bias.dtype).isfinite().all()):
        raise InputError(f"{bias.dtype} cannot hold the bias {found.bias.tolist()}")
    bias.copy_(found.bias)
    return found


def _head(head: nn.Module | str, model: nn.Module | None) -> Any:
    """Return the output map.

    Raises:
        InputError: there is none with a bias that can be written.
    """
    if isinstance(head, str):
        modules = {} if model is None else dict(model.named_modules())
        if head not in modules:
            raise InputError(
                f"expected model= with a module {head!r}, got "
                f"{type(model).__name__}.{did_you_mean(head, modules)}"
            )
        head = modules[head]
    bias = getattr(head, "bias", None)
    conv1d = type(head).__name__ == "Conv1D"  # Hugging Face's, (in, out)
    if not isinstance(head, _MAPS) and not conv1d:
        inner = [n for n, m in head.named_modules() if isinstance(m, _MAPS)]
        raise InputError(
            f"expected a linear map or convolution, got {type(head).__name__}; pass "
            f"the last map in it{', ' + repr(inner[-1]) if inner else ''}"
        )
    if not isinstance(bias, nn.Parameter):
        raise InputError(
            f"{type(head).__name__} {list(head.weight.shape)} has no bias parameter to "  # pyright: ignore
            "write; make it with bias=True"
        )
    if not bias.requires_grad or bias.is_meta:
        raise InputError(
            f"the head's bias {list(bias.shape)} is frozen or holds no values; "
            "unfreeze it: head.bias.requires_grad_(True)"
        )
    return head


def _features(layer: nn.Module, model: nn.Module | None, data: Any) -> Tensor:
    """Run the model once and return what the head reads.

    Raises:
        InputError: there is no model, or the head was not called exactly once.
    """
    if model is None:
        raise InputError("expected model= beside data=, got none; or pass features=")
    seen: list[Tensor] = []
    with untouched(model), torch.no_grad():
        batch = next(iter(batches(model, data, limit=1)))
        layer.register_forward_pre_hook(
            lambda module, args: seen.append(args[0].detach().clone())
        )
        model(*batch.args, **batch.kwargs)
    if len(seen) != 1:
        raise InputError(
            f"expected the head to be called once by {type(model).__name__}, got "
            f"{len(seen)} calls; pass what it reads as features="
        )
    return seen[0]
