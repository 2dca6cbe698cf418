"""v c = a bias: a unit that always has one value c is no unit (c = 0: nothing)."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from plumbob.errors import InputError
from plumbob.mending.moves import Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.mending.units import (
    Layer,
    add_constant,
    drop,
    intact,
    layer,
    owner,
    pads_zeros,
)
from plumbob.survey.bounds import bounds, named
from plumbob.survey.hidden import Hidden, ancestors, hidden, spread
from plumbob.types import Safety

NAME, CODE = "remove-dead-unit", "PB314"
Values = Float[Any, " out"]


def remove_dead_unit(plan: Plan) -> Iterator[Offered]:
    """Remove units that are the same for every input, by proof.

    Why:
        A ReLU that cannot fire, a row of zeros, a gain of zero: the unit costs a row
        and its columns, and says nothing that a bias could not.

    Exact when:
        In inference: interval arithmetic from the bounds of what the map reads (norms,
        tables, sigmoids, ReLUs) proves one value at all that reads the unit. A value
        other than 0 goes to the biases of the readers.

    Not when:
        The unit never fired on some data: that is evidence (PB201), and the next input
        may wake it. Inputs have no bound. Far below 0 a leaky ReLU, GELU or SiLU is
        not constant. A value other than 0 is read by a convolution that
        pads with zeros. In training, which can bring the unit back.

    Side effects:
        The layer and its readers get narrower: shapes differ from the configuration's.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> layers = nn.Sigmoid(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
        >>> model, x = nn.Sequential(*layers), torch.randn(8, 3)
        >>> _ = nn.init.ones_(model[1].weight)
        >>> model[1].bias.data = torch.tensor([0.0, -3.0, 1.0, -2.9])  # 0 <= w.x <= 3
        >>> fixed, proof = plumbob.fix(model, x, select="remove-dead-unit")
        >>> fixed[1].out_features, proof.before, proof.after
        (3, 26, 20)
        >>> torch.allclose(fixed(x), model(x), atol=1e-6)
        True

    References:
        Serra, Kumar and Ramalingam (2020), Lossless compression of deep neural
        networks (arXiv 2001.00218).
    """
    graph = plan.graph
    if graph is None:
        return
    model = plan.model
    known, values = bounds(model, graph), named(model, graph)
    for each in hidden(graph):
        z = known.units.get(each.use.node)
        if z is None or not (each.readers or each.obstacles):
            continue
        at = spread(each, z, values)
        still = {node: low == high for node, (low, high) in at.items()}
        read = [use.reads for use, _ in each.readers if use.reads is not None]
        if each.obstacles:  # what is still from the start, as at zero, is no wonder
            gone = np.any([*still.values()], axis=0) & ~still[each.use.node]
        else:
            gone = np.all([still[node] for node in read], axis=0)
        gone[0] &= not gone.all()  # a layer keeps one unit
        if not gone.any():
            continue
        kept = frozenset().union(*(ancestors(node, graph) for node in read))
        yield from _offers(plan, each, gone, [at[node][0] for node in read], kept)


def _offers(
    plan: Plan, each: Hidden, gone: Any, constants: list[Values], kept: frozenset[str]
) -> Iterator[Offered]:
    place = owner(each.use.weight.name)
    graph = plan.structure.graphs[False]
    try:
        found = layer(plan.model, graph, each)
    except InputError as error:
        yield Refusal(rewrite=NAME, code=CODE, place=place, why=str(error))
        return
    folded = [np.where(gone, values, 0.0) for values in constants]
    for (path, _), values in zip(found.readers, folded, strict=True):
        stuck = values != 0
        if stuck.any() and pads_zeros(plan.model.get_submodule(path)):
            why = (
                f"units {np.flatnonzero(stuck).tolist()} always have a value, which "
                f"{path} reads beside zeros that it pads with: no bias does that"
            )
            yield Refusal(rewrite=NAME, code=CODE, place=place, why=why)
            gone = gone & ~stuck
    if not gone.any():
        return
    units = tuple(int(unit) for unit in np.flatnonzero(gone))
    amounts = {
        path: torch.from_numpy(np.where(gone, values, 0.0))
        for (path, _), values in zip(found.readers, folded, strict=True)
    }
    yield Offer(
        rewrite=NAME,
        code=CODE,
        place=place,
        safety=Safety.EVAL_ONLY,
        steps=(
            f"units {list(units)} of {place} have one value for every input, by "
            "interval arithmetic along the graph",
            "that value times their columns is part of the readers' biases",
        ),
        act=partial(_remove, layer=found, units=units, amounts=amounts),
        structural=True,
        kept=kept,
    )


def _remove(
    model: nn.Module,
    *,
    layer: Layer,
    units: tuple[int, ...],
    amounts: Mapping[str, torch.Tensor],
) -> None:
    if not intact(model, layer):
        return
    for path, width in layer.readers:
        add_constant(model, path, width, amounts[path])
    drop(model, layer, units)
