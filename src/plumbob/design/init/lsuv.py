"""Layer-sequential unit variance: scaled by what the layers give on real data."""

from collections.abc import Iterable, Sequence
from math import isfinite, sqrt

import numpy as np
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.batches import Batch
from plumbob.survey.layers import Layer
from plumbob.survey.probe import probe
from plumbob.types import Moments


def lsuv(
    model: nn.Module,
    layers: Iterable[Layer],
    batches: Sequence[Batch],
    *,
    tolerance: float = 0.01,
    attempts: int = 10,
) -> dict[str, str]:
    """Scale W, then shift b, layer by layer, until z has mean 0 and variance 1.

    Why: closed forms hold for independent inputs of mean 0; data are not that. The
    order counts: b is set last, since every change of W moves the mean (by
    w.mu (1/sd - 1)). The shift is one per unit, the scale one per layer: the mean
    variance within the units is 1.

    Costs two runs of the model per layer. A layer without a bias that can be written
    keeps its mean.

    Args:
        model: run as it is, in the mode that it is in.
        layers: what is written, in the order of execution, with weights already
            drawn (orthogonal ones in the paper).
        batches: the data; the same for all layers.
        tolerance: of the standard deviation.
        attempts: at scaling one layer; more than one are needed only where a map
            reads its own result.

    Returns:
        What was done, by the site's name.

    Raises:
        InputError: a layer gives values that are not finite.

    References:
        D. Mishkin and J. Matas (2016), All you need is a good init, algorithm 1.
    """
    done: dict[str, str] = {}
    for layer in layers:
        z = _z(model, layer, batches)
        first = sd = _spread(layer, z)
        for _ in range(attempts):
            if z is None or sd == 0 or abs(sd - 1) <= tolerance:
                break
            layer.write(layer.matrix().float() / sd)
            z = _z(model, layer, batches)
            sd = _spread(layer, z)
        if z is None or sd == 0:
            done[layer.site.name] = "not scaled: it gives one value on these data"
            continue
        said = f"scaled by 1/{first:.4g} to sd {sd:.4g}"
        bias = layer.vector()
        if bias is not None and layer.bias is not None and layer.bias.requires_grad:
            layer.shift(bias.cpu().double() - torch.from_numpy(z.mean))
            said += f", bias shifted by up to {np.abs(z.mean).max():.4g} to mean 0"
        done[layer.site.name] = said
    return done


def _z(model: nn.Module, layer: Layer, batches: Sequence[Batch]) -> Moments | None:
    found = probe(model, batches, [layer.site], gradients=False)
    reading = found.readings.get(layer.site.name)
    return reading.z if reading else None


def _spread(layer: Layer, z: Moments | None) -> float:
    """Return the root of the mean variance within units.

    Raises:
        InputError: it is not finite.
    """
    sd = sqrt(float(z.var.mean())) if z is not None else 0.0
    if not isfinite(sd) or (z is not None and bool(z.nonfinite.any())):
        raise InputError(
            f"expected finite values from {layer.site.name} "
            f"{list(layer.weight.shape)}, got others; look at the data, or at what "
            "comes before it"
        )
    return sd
