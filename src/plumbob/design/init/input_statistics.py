"""The standardisation of the input becomes part of the first layer."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from plumbob.columns import Done
from plumbob.errors import InputError, did_you_mean
from plumbob.survey.batches import Batch, batches
from plumbob.survey.following import look
from plumbob.survey.graph import inner, tensors
from plumbob.survey.guard import or_as_before, same_random
from plumbob.survey.layers import Layer, layers
from plumbob.survey.maps import Map, Maps
from plumbob.types import Site

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PADDING = "padding_mean"
BOUND = 1e-12  # of the change of the outputs in float64, relative to the largest


@dataclass(frozen=True, slots=True)
class PadWithMean:
    """Pads a convolution's input with its `padding_mean`, one number per channel.

    `pad` is as `torch.nn.functional.pad` takes it.
    """

    pad: tuple[int, ...]

    def __call__(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the layer's forward with x padded."""
        x = args[0] if args else kwargs["input"]
        border = functional.pad(torch.zeros_like(x), self.pad, value=1.0)
        x = functional.pad(x, self.pad) + border * layer.get_buffer(PADDING)
        return (x, *args[1:]), {k: v for k, v in kwargs.items() if k != "input"}


@dataclass(frozen=True, slots=True)
class _Plan:
    """A site that reads the input, with mean and std of what it reads."""

    site: Site
    mean: Float[Tensor, " in"]
    std: Float[Tensor, " in"]


def fold_input_statistics_(
    model: nn.Module,
    data: Any,
    *,
    mean: Any,
    std: Any = 1.0,
    sites: Iterable[str] | None = None,
    targets: Any = None,
) -> Done:
    """Let a model that takes (x - mean) / std take x itself, in place.

    Why:
        W (x - mean) / std + b = W' x + b' with W' = W / std and b' = b - W' mean. So
        nobody who uses the model can forget or mistake the standardisation. Fold after
        training: W' and b' see an uncentred input, which is hard to train on.

    Exact for every x, in training and inference, and checked: the folded model in
    float64 must give on `data` what the model gives on (data - mean) / std, or nothing
    is changed. Zeros that a convolution pads with stand for the mean: the layer pads
    with its new buffer `padding_mean` instead, by a hook, and its own padding is 0.
    Other padding modes pad with values of x, so they need nothing. A layer without a
    bias gets one.

    Args:
        model: written in place; it keeps its mode.
        data: raw inputs, one batch of which is used; one floating-point tensor, beside
            whatever else the model takes.
        mean: a number, one per feature or channel, or anything that broadcasts to one
            input.
        std: likewise, above 0.
        sites: names of the layers that read the input; found by tracing if None.
        targets: of a single batch.

    Returns:
        What was done at each layer, with the error in float64.

    Raises:
        InputError: the model uses the input elsewhere too, or a layer cannot take it
            (a transposed convolution, a frozen or shared weight).

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        >>> x = torch.randint(256, (2, 3, 8, 8)).float()
        >>> mean, std = torch.tensor([124.0, 116.0, 104.0]), torch.tensor(58.0)
        >>> before = model((x - mean[:, None, None]) / std)
        >>> _ = fold_input_statistics_(model, x, mean=mean, std=std)
        >>> torch.allclose(model(x), before, atol=1e-4)
        True
    """
    model = inner(model)
    with same_random(), or_as_before(model), torch.no_grad():
        raw = next(batches(model, data, targets=targets, limit=1))
        x = _input(raw)
        shift, scale = _spread(x, mean, "mean"), _spread(x, std, "std")
        if not bool((scale > 0).all()):
            raise InputError(
                f"expected every std above 0, got {float(scale.min()):g}; a feature "
                "that never changes has std 1 and its value as mean"
            )
        normal = _with(raw, x, (x.double() - shift) / scale)
        exact = copy.deepcopy(model).double().eval()
        chosen = _first(model, _as(normal, x.dtype), sites)
        plans = _plans(exact, chosen, _as(raw, torch.float64), x, shift, scale)
        before = _outputs(exact, normal)
        _fold(exact, plans)
        error = _error(before, _outputs(exact, _as(raw, torch.float64)))
        if not error <= BOUND:
            names = ", ".join(site.name for site in chosen)
            raise InputError(
                f"cannot fold the statistics into {names}: the outputs would change by "
                f"{error:.2g} of their size, as the input is used elsewhere too or "
                "bent before; standardise it outside the model"
            )
        done = _fold(model, plans)
    for name, what in done.items():
        done[name] = f"{what}; outputs the same to {error:.1g} in float64"
    return done


def _input(batch: Batch) -> Tensor:
    found = [t for t in tensors((batch.args, batch.kwargs)) if t.is_floating_point()]
    if len(found) != 1 or found[0].ndim < 2:
        raise InputError(
            "expected one floating-point tensor of several inputs, got "
            f"{batch.shapes()}; fold into the part of the model that takes one"
        )
    return found[0]


def _spread(x: Tensor, value: Any, name: str) -> Tensor:
    """Return a statistic in float64, expanded to the shape of one input.

    Raises:
        InputError: it does not fit.
    """
    given = torch.as_tensor(value, dtype=torch.float64, device=x.device)
    shape = x.shape[1:]
    if given.ndim == 1 and len(given) > 1:
        axes = [i for i, n in enumerate(shape) if n == len(given)]
        if len(axes) != 1:
            raise InputError(
                f"expected {name} to fit one axis of an input {list(shape)}, got "
                f"{len(given)} numbers, which fit {len(axes)}; give it the shape that "
                "broadcasts, as in mean[:, None, None]"
            )
        given = given.view([-1 if i == axes[0] else 1 for i in range(len(shape))])
    try:
        return given.expand(shape).contiguous()
    except RuntimeError:
        raise InputError(
            f"expected {name} to broadcast to an input {list(shape)}, got "
            f"{list(given.shape)}"
        ) from None


def _with(batch: Batch, old: Tensor, new: Tensor) -> Batch:
    """Return a batch with another tensor for its input."""
    swap = pytree.tree_map_only(
        Tensor, lambda t: new if t is old else t, (batch.args, dict(batch.kwargs))
    )
    return Batch(args=swap[0], kwargs=swap[1], samples=batch.samples)


def _as(batch: Batch, dtype: torch.dtype) -> Batch:
    x = _input(batch)
    return _with(batch, x, x.to(dtype))


def _outputs(model: nn.Module, batch: Batch) -> list[Tensor]:
    with same_random():
        found = list(tensors(model(*batch.args, **batch.kwargs)))
    return [t.clone() for t in found if t.is_floating_point()]


def _error(before: list[Tensor], after: list[Tensor]) -> float:
    """Return the largest change, relative to the largest value of its output."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a.numel()]
    worst = [float((a - b).abs().max() / a.abs().max().clamp(min=1)) for a, b in pairs]
    return max(worst, default=0.0)


def _first(model: nn.Module, batch: Batch, names: Iterable[str] | None) -> list[Site]:
    facts = look(model, [batch])
    if names is None:
        found = [s for s in facts.sites if s.reads_input and s.kind != "embedding"]
        if not found:
            raise InputError(
                f"found no layer that reads the input of {type(model).__name__}"
                + (f" ({facts.note})" if facts.note else "")
                + "; name them: sites=['conv1']"
            )
        return found
    sites = {site.name: site for site in facts.sites}
    for name in names:
        if name not in sites:
            raise InputError(
                f"expected the name of a site of {', '.join(sites)}, got '{name}'."
                + did_you_mean(name, sites)
            )
    return [sites[name] for name in names]


def _plans(
    model: nn.Module,
    sites: list[Site],
    raw: Batch,
    x: Tensor,
    mean: Tensor,
    std: Tensor,
) -> list[_Plan]:
    """Say in which features of each site mean and std arrive.

    What lies between the input and the site moves numbers only, so it is told by the
    model itself: it is given the mean, then the std, for its input.

    Raises:
        InputError: they differ within a feature, or a layer cannot take them.
    """
    old = _input(raw)
    arrived = [
        _seen(model, _with(raw, old, s.expand_as(x).contiguous())) for s in (mean, std)
    ]
    found, unseen = layers(model, sites)
    plans: list[_Plan] = []
    for site in sites:
        if why := unseen.get(site.name) or _why_not(found.get(site.name)):
            raise InputError(f"cannot fold the statistics into {site.name}: {why}")
        rows = [seen.get((site.weight, site.rows)) for seen in arrived]
        if any(r is None or not bool((r == r[0]).all()) for r in rows):
            raise InputError(
                f"cannot fold the statistics into {site.name}: they differ within one "
                "of its features (or padding comes before it); give one mean and std "
                "per channel or feature"
            )
        plans.append(_Plan(site, *(r[0] for r in rows if r is not None)))
    return plans


def _seen(model: nn.Module, batch: Batch) -> dict[Any, Tensor]:
    """Return what each map reads, one row per place, by weight and rows."""
    found: dict[Any, list[Tensor]] = {}

    def note(use: Map) -> None:
        assert use.x is not None
        rows = use.x.detach().movedim(use.x_axis, -1).flatten(0, -2)
        found.setdefault((use.weight, use.rows), []).append(rows.clone())

    with Maps(model, note, lambda use: None) as maps:
        model(*batch.args, **batch.kwargs)
    maps.forget()
    return {key: torch.cat(rows) for key, rows in found.items()}


def _why_not(layer: Layer | None) -> str | None:
    if layer is None:
        return "it is a norm"
    site, bias = layer.site, layer.bias
    if site.kind == "conv-transpose":
        return "units at the border of a transposed convolution get fewer taps"
    if hasattr(layer.module, PADDING):
        return "it has some already"
    if not layer.weight.requires_grad or (bias is not None and not bias.requires_grad):
        return "it is frozen (requires_grad=False); unfreeze it first"
    if bias is None and getattr(layer.module, "bias", layer) is not None:
        return "it has no bias and cannot be given one"
    return None


def _fold(model: nn.Module, plans: list[_Plan]) -> Done:
    """Write W' and b' into the layers of a model."""
    done = Done()
    found, _ = layers(model, [plan.site for plan in plans])
    for plan in plans:
        site, layer = plan.site, found[plan.site.name]
        each = site.out // site.groups
        taps = site.fan_in * site.groups // len(plan.mean)
        mean, std = (
            s
            .view(site.groups, -1)
            .repeat_interleave(each, 0)
            .repeat_interleave(taps, 1)
            for s in (plan.mean, plan.std)
        )
        W = layer.matrix().double() / std
        shift = (W * mean).sum(1)
        layer.write(W.to(layer.weight.dtype))
        said = "W / std"
        if bool(shift.any()):
            said += ", b - W' mean" + _shift(layer, shift)
        if bool(plan.mean.any()):
            said += _pad(layer, plan.mean)
        done[site.name] = said
    return done


def _shift(layer: Layer, shift: Float[Tensor, " out"]) -> str:
    old = layer.vector()
    if old is not None:
        layer.shift((old.double() - shift).to(old))
        return ""
    layer.module.register_parameter("bias", nn.Parameter((-shift).to(layer.weight)))
    return " (a new bias: give it to the optimiser)"


def _pad(layer: Layer, mean: Float[Tensor, " channels"]) -> str:
    """Let a convolution that pads with zeros pad with the mean."""
    conv = layer.module
    if not isinstance(conv, CONVOLUTIONS) or conv.padding_mode != "zeros":
        return ""
    pad = tuple(conv._reversed_padding_repeated_twice)  # pyright: ignore[reportPrivateUsage]
    if not any(pad):
        return ""
    axes = len(conv.kernel_size)
    conv.register_buffer(PADDING, mean.to(layer.weight).view(-1, *[1] * axes))
    conv.register_forward_pre_hook(PadWithMean(pad), with_kwargs=True)
    conv.padding = (0,) * axes  # pyright: ignore[reportAttributeAccessIssue]
    return ", padded with the mean"
