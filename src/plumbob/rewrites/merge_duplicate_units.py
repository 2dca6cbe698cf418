"""u f(z) + v f(z) = (u + v) f(z): two units that are one and the same."""

from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from math import ldexp

import numpy as np
import torch
from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.mending.moves import Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.mending.units import Layer, add_columns, drop, intact, layer, owner
from plumbob.survey.bounds import named
from plumbob.survey.hidden import Hidden, hidden
from plumbob.survey.intervals import MEANS, MOVED, POOLS
from plumbob.survey.ops import DROPOUT, MAX_POOLS, op
from plumbob.types import Safety

NAME, CODE = "merge-duplicate-units", "PB107"
# f(c z) = c f(z) for c > 0
SCALED = MOVED | DROPOUT | MAX_POOLS | MEANS | POOLS | {"relu", "leaky_relu", "getitem"}
Copies = dict[int, tuple[int, float]]  # the unit that is copied, and times how much


def merge_duplicate_units(plan: Plan) -> Iterator[Offered]:
    """Merge units with the same weights and bias into one, adding up their columns.

    Why:
        Maps that read both see their sum only.

    Exact when:
        In inference: rows, biases and what a norm holds for them are equal bit for bit;
        before a ReLU also where one row and bias are the other's times a power of two.

    Not when:
        Rows are nearly equal, or one is the other's times a number that rounds: an
        approximation carries no certificate. One is a multiple of the other before
        GELU, ReLU6 or another function that does not scale. Something besides linear
        maps and convolutions reads the units. In training, where what reads them may
        part them (or dropout does).

    Side effects:
        The layer and its readers get narrower: shapes differ from the configuration's.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> with torch.no_grad():  # unit 2 is twice unit 0
        ...     model[0].weight[2] = 2 * model[0].weight[0]
        ...     model[0].bias[2] = 2 * model[0].bias[0]
        >>> x = torch.randn(8, 3)
        >>> fixed, proof = plumbob.fix(model, x, select="merge-duplicate-units")
        >>> summed = model[2].weight[:, 0] + 2 * model[2].weight[:, 2]
        >>> fixed[0].out_features, torch.allclose(fixed[2].weight[:, 0], summed)
        (2, True)
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Sussmann (1992), Uniqueness of the weights for minimal feedforward nets with
        a given input-output map.
    """
    graph = plan.graph
    if graph is None:
        return
    values = named(plan.model, graph)
    if any(p.is_meta for p in plan.model.parameters()):
        return
    for each in hidden(graph):
        copies = _copies(each, values) if each.readers else {}
        if copies:
            yield _offer(plan, each, copies)


def _copies(each: Hidden, values: dict[str, Tensor]) -> Copies:
    """Return the units that repeat an earlier one."""
    own = values[each.use.weight.name].detach()
    axis = int(each.use.transposed)
    if own.dim() < 2 or own.shape[axis] != each.use.out:
        return {}
    rows = [own.movedim(axis, 0).reshape(each.use.out, -1)]
    if each.use.bias is not None:
        rows.append(values[each.use.bias.name].detach().reshape(-1, 1))
    for node, width in each.norms:
        given = [values[n.name] for n in node.all_input_nodes[1:]]
        rows += [t.detach().reshape(-1, width) for t in given]
    table = torch.cat([t.cpu().double() for t in rows], 1).numpy()
    alive = rows[0].cpu().any(1).numpy() & np.isfinite(table).all(1)
    powers = np.zeros(len(table), np.int64)
    if all(op(node) in SCALED for node in each.between):
        powers += np.frexp(np.abs(table).max(1))[1]
    alike = np.ldexp(table, -powers[:, None]) + 0.0  # -0.0 is 0.0
    first: dict[bytes, int] = {}
    copies: Copies = {}
    for unit in map(int, np.flatnonzero(alive)):
        same = first.setdefault(blake2b(alike[unit].tobytes()).digest(), unit)
        if same != unit:
            copies[unit] = (same, ldexp(1.0, int(powers[unit] - powers[same])))
    return copies


def _offer(plan: Plan, each: Hidden, copies: Copies) -> Offered:
    place = owner(each.use.weight.name)
    graph = plan.structure.graphs[False]
    try:
        found = layer(plan.model, graph, each)
    except InputError as error:
        return Refusal(rewrite=NAME, code=CODE, place=place, why=str(error))
    parts = (each.use.weight, each.use.bias)
    kept = {part.name for part in parts if part is not None}
    for node, _ in each.norms:
        names = (n.name for n in node.all_input_nodes)
        kept |= {graph.parameters[n] for n in names if n in graph.parameters}
    return Offer(
        rewrite=NAME,
        code=CODE,
        place=place,
        safety=Safety.EVAL_ONLY,
        steps=(
            f"units {list(copies)} of {place} have the rows and biases of units "
            f"{[same for same, _ in copies.values()]}, times a power of two",
            "all that reads them is linear in them",
        ),
        act=partial(_merge, layer=found, copies=copies),
        structural=True,
        kept=frozenset(kept),
    )


def _merge(model: nn.Module, *, layer: Layer, copies: Copies) -> None:
    if not intact(model, layer):
        return
    for path, width in layer.readers:
        add_columns(model, path, width, copies)
    drop(model, layer, copies)
