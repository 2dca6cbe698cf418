"""Inputs scaled and shifted: which decisions stay."""

from collections.abc import Iterator, Mapping, Sequence
from math import log, nan
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from plumbob.survey.batches import Batch
from plumbob.survey.graph import tensors
from plumbob.survey.guard import untouched
from plumbob.types import Census, Robustness, Site

GAINS = (0.05, 0.1, 0.25, 0.5, 2.0, 4.0, 10.0)
OFFSETS = (-1.0, -0.5, -0.2, 0.2, 0.5, 1.0)
SAMPLES = 256
HOMOGENEOUS = {None, "relu", "leaky_relu", "prelu", "identity"}
MAXIMA = {"max", "amax", "maximum", "relu", "leaky_relu"}


def robustness(
    model: nn.Module,
    batch: Batch,
    sites: Sequence[Site],
    bends: Sequence[str],
    parameters: Mapping[str, Census],
) -> tuple[Robustness | None, str]:
    """Run the first samples in evaluation, scaled and shifted; or say why not.

    The model is left as found.
    """
    few = batch.few(SAMPLES)
    call = (few.args, dict(few.kwargs))
    given = [t for t in pytree.tree_leaves(call) if _real(t)]
    if len(given) != 1:
        return None, f"{len(given)} inputs of real numbers, where one can be scaled"
    x = given[0].detach()

    def run(value: Tensor) -> Tensor | None:
        def put(part: Any) -> Any:
            return value if part is given[0] else part

        args, kwargs = pytree.tree_map(put, call)
        return next(_outputs(model(*args, **kwargs)), None)

    with untouched(model), torch.no_grad():
        model.eval()
        base = run(x.clone())
        if base is None or base.ndim < 2 or len(base) != len(x):
            return None, "the output has no units for each sample"
        scaled = {a: run(a * x) for a in GAINS}
        unit = float(x.double().std(correction=0))
        shifted = {c: run(x + c * unit) for c in OFFSETS}
    size = {a: _size(f) for a, f in scaled.items() if f is not None}
    reach = _size(base) or nan
    errors = [
        _size(f.double() - a * base.double()) / (a * reach)
        for a, f in scaled.items()
        if f is not None
    ]
    return Robustness(
        samples=len(x),
        gains={a: _kept(base, f) for a, f in scaled.items() if f is not None},
        offsets={c: _kept(base, f) for c, f in shifted.items() if f is not None},
        unit=unit,
        error=max(errors),
        degree=log(size[2.0] / size[0.5], 4) if size[0.5] and size[2.0] else nan,
        structure=_structure(sites, bends, parameters),
    ), ""


def _real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _outputs(output: Any) -> Iterator[Tensor]:
    return (t for t in tensors(output) if _real(t))


def _size(t: Tensor) -> float:
    return float(t.double().square().mean().sqrt())


def _kept(before: Tensor, after: Tensor) -> float:
    """Return the share of decisions that are the same: of each place, for images."""
    return float(
        (_decision(before, before) == _decision(after, before)).double().mean()
    )


def _decision(output: Tensor, like: Tensor) -> Tensor:
    axis = 1 if output.ndim > 3 else -1
    if output.shape[axis] > 1:
        return output.argmax(axis)
    probability = bool(((like >= 0) & (like <= 1)).all())
    return output > (1 / 2 if probability else 0)


def _structure(
    sites: Sequence[Site], bends: Sequence[str], parameters: Mapping[str, Census]
) -> bool:
    """Return whether f(a x) = a f(x) for a > 0 whatever the weights."""

    def none(bias: str | None) -> bool:
        found = parameters.get(bias or "")
        return bias is None or (found is not None and found.zeros == found.count)

    plain = {"linear", "conv", "conv-transpose"}
    maps = [
        site.kind in plain
        and none(site.bias)
        and site.norm is None
        and not site.gates
        and site.activation in HOMOGENEOUS
        for site in sites
    ]
    return bool(maps) and all(maps) and all(_maximum(bend) for bend in bends)


def _maximum(bend: str) -> bool:
    return "max_pool" in bend or bend in MAXIMA
