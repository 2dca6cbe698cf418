"""W x + b = W (x - m) + (b + W m): a map reads what is centred."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from torch import nn

from plumbob.errors import InputError
from plumbob.mending.fold_centring import MEAN, layer_of
from plumbob.mending.fold_centring import fold_centring as centre
from plumbob.mending.hooks import hooked
from plumbob.mending.moves import Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.survey.guard import untouched
from plumbob.survey.probe import probe
from plumbob.types import Safety

NAME = "fold-centring"


def fold_centring(plan: Plan) -> Iterator[Offered]:
    """Take the mean out of what a map reads and add it to the bias; only where named.

    Why:
        With x centred the gradients of W and b do not disturb each other: the largest
        curvature falls by |m|^2 times that of z, so that learning rates may grow; and
        the bias is the effective one, E[z], which states a threshold. Nothing goes
        and a subtraction comes, so that it is done only where it is asked for.

    Exact when:
        In training and inference: for every x and every m; m is the mean over the
        batch that is given. Linear maps, Conv1d to Conv3d with any padding, and the
        first layers of LSTM, GRU and RNN.

    Not when:
        The model uses the layer's parameters outside the layer's own call, as fused
        attention does. Transposed convolutions, whose outputs get different numbers
        of taps. A recurrent layer without biases. A layer with other hooks.

    Side effects:
        The mean is a buffer `input_mean`, subtracted by a hook of the layer. A
        convolution that pads with zeros pads before that, at the cost of a copy. From
        there on learning goes another way, as it should.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model, x = nn.Sequential(nn.Linear(2, 3), nn.Tanh()), torch.randn(8, 2) + 5
        >>> name = "fold-centring"
        >>> fixed, proof = plumbob.fix(model, x, goal="training", select=name)
        >>> torch.allclose(fixed[0].input_mean, x.mean(0))
        True
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        LeCun, Bottou, Orr and Müller (1998), Efficient BackProp, section 4.3.
    """
    model = plan.model
    if any(p.is_meta for p in model.parameters()):
        return
    with untouched(model):
        probed = probe(
            model.eval(), [plan.batch], plan.structure.sites, gradients=False
        )
    done = set[str]()  # both directions of a recurrent layer read the same x
    for site in plan.structure.sites:
        reading = probed.readings.get(site.name)
        x = reading.x if reading is not None and reading.called else None
        try:
            path, layer = layer_of(model, site.name)
        except InputError:  # none that can be centred
            continue
        if path in done or hasattr(layer, MEAN):
            continue
        if x is not None and np.isfinite(x.mean).all() and x.mean.any():
            done.add(path)
            yield _offer(model, path, tuple(map(float, x.mean)))


def _offer(model: nn.Module, path: str, mean: tuple[float, ...]) -> Offered:
    place = path or type(model).__name__
    if why := hooked(model, [f"{path}.weight"], ()):
        return Refusal(rewrite=NAME, place=place, why=why)
    return Offer(
        rewrite=NAME,
        place=place,
        safety=Safety.EXACT,
        steps=(f"{place} maps x - m and m apart, and both are added up",),
        act=partial(_once, path=path, mean=mean),
        structural=True,
        effects=(f"{place}: subtracts the mean of its input first",),
    )


def _once(model: nn.Module, *, path: str, mean: tuple[float, ...]) -> None:
    if not hasattr(model.get_submodule(path), MEAN):
        centre(model, site=path, mean=mean)
