"""By how much other parameters must move to carry what one of them gives up."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from plumbob.errors import InputError
from plumbob.survey.carriers import Carrier
from plumbob.survey.flow import Walk
from plumbob.survey.graph import Graph
from plumbob.survey.replay import EPS, fixed, play

SAME = 1e-9  # of the largest amount: what rounding in float64 leaves of a constant


def amounts(
    graph: Graph,
    walk: Walk,
    values: Mapping[str, Any],
    parameter: str,
    lo: int,
    hi: int,
) -> dict[str, Tensor]:
    """Return what each carrier takes over when rows lo..hi of a parameter become 0.

    That it is the same for every input is proved by the walk; how much it is, is read
    as a difference between two replays in float64, and must be a constant there too.

    Args:
        graph: of the model.
        walk: the proof that these carriers can carry these rows.
        values: of all placeholders of the graph, in float64.
        parameter: whose rows are given up.
        lo: the first of them.
        hi: one past the last.

    Raises:
        InputError: an amount is not finite or depends on the input, or a carrier is
            met where others read the same values.
    """
    places = dict(_place(carrier) for carrier in walk.carriers if carrier.kind != "rnn")
    with torch.no_grad(), fixed():
        _, kept, _ = play(graph, values, dict.fromkeys(places), {})
        moved = dict(values)
        for key, owner in graph.parameters.items():
            if owner == parameter:
                moved[key] = moved[key].clone()
                moved[key][lo:hi] = 0
        _, after, taken = play(graph, moved, places, kept)
    found = {name: -amount for name, amount in taken.items()}
    for carrier in walk.carriers:
        if carrier.kind == "rnn":
            key = next(k for k, n in graph.parameters.items() if n == parameter)
            found[carrier.name] = values[key][lo:hi]
    for node, (name, axis) in places.items():
        _constant(kept[node], after[node], found[name], axis, name)
    return found


def _place(carrier: Carrier) -> tuple[fx.Node, tuple[str, int | None]]:
    """Return where a carrier's amount is read: of a batch norm before it.

    Raises:
        InputError: others read the values before the norm.
    """
    if carrier.kind != "batch-norm":
        return carrier.node, (carrier.name, carrier.axis)
    source = carrier.node.all_input_nodes[0]
    if len(source.users) > 1:
        raise InputError(
            f"expected a batch norm that alone reads its input, got {carrier.name}; "
            "leave the bias"
        )
    return source, (carrier.name, 1)


def _constant(
    value: Tensor, after: Tensor, amount: Tensor, axis: int | None, name: str
) -> None:
    change = value - after
    if not bool(amount.isfinite().all()):
        raise InputError(
            f"expected a finite amount for {name} to carry, got none; check the "
            "weights for NaN and infinity first"
        )
    shape = [-1 if i == axis else 1 for i in range(change.dim())]
    largest = float(amount.abs().max()) if amount.numel() else 0.0
    noise = SAME * largest + 1e3 * EPS * float(value.abs().max())
    if float((change - amount.reshape(shape)).abs().max()) > noise:
        raise InputError(
            f"expected an amount for {name} to carry that is the same for every input, "
            "got one that differs; please report"
        )
