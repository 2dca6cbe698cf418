"""By how much other parameters must move to carry what one of them gives up."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from plumbob.errors import InputError
from plumbob.survey.carriers import Carrier
from plumbob.survey.edit import Edit
from plumbob.survey.evaluate import Edits, Store, evaluate, whole
from plumbob.survey.flow import Walk
from plumbob.survey.graph import Graph
from plumbob.survey.replay import EPS

SAME = 1e-9  # of the largest amount: what rounding in float64 leaves of a constant
Values = Mapping[fx.Node, Sequence[Any]]


def beside(
    graph: Graph, walks: Iterable[Walk], given: Values, store: Store, edits: Edits
) -> Values:
    """Return what is read on the ways of shifts and is not shifted, in float64.

    Args:
        graph: of the model.
        walks: the ways.
        given: the values of the inputs.
        store: of the parameters and buffers.
        edits: what was done to these.
    """
    read: set[fx.Node] = set()
    for walk in walks:
        path = _path(graph, walk)
        read |= {n for node in path for n in node.all_input_nodes} - set(path)
    return {**given, **evaluate(graph, given, store, [edits], keep=read)}


def amounts(
    graph: Graph,
    walk: Walk,
    beside: Values,
    store: Store,
    edits: Edits,
    parameter: str,
    rows: tuple[int, int],
) -> dict[str, Tensor]:
    """Return what each carrier takes over when some rows of a parameter become 0.

    That it is the same for every input is proved by the walk; how much it is, is read
    as a difference between two replays in float64, and must be a constant there too.

    Args:
        graph: of the model.
        walk: the proof that these carriers can carry these rows.
        beside: what is read on their way.
        store: of the parameters and buffers.
        edits: what was done to these.
        parameter: whose rows are given up.
        rows: the first of them, and one past the last.

    Raises:
        InputError: an amount is not finite or depends on the input, or a carrier is
            met where others read the same values.
    """
    places = dict(_place(carrier) for carrier in walk.carriers if carrier.kind != "rnn")
    without = {**edits, parameter: [*edits.get(parameter, ()), Edit(parameter, rows)]}
    met = evaluate(
        graph,
        beside,
        store,
        [edits, without],
        nodes=_path(graph, walk),
        keep=places,
        rejoin=places,
    )
    found: dict[str, Tensor] = {}
    for node, (name, axis) in places.items():
        before, after = (v[0] if isinstance(v, tuple) else v for v in met[node])
        change = before - after
        mine = change.mean([i for i in range(change.dim()) if i != axis])
        _constant(before, change, found.setdefault(name, mine), axis, name)
    for carrier in walk.carriers:
        if carrier.kind == "rnn":
            own = whole(store, parameter, edits.get(parameter, ()))
            found[carrier.name] = own[slice(*rows)]
    return found


def _path(graph: Graph, walk: Walk) -> list[fx.Node]:
    """Return the nodes that a shift moves, in order, and those where it is carried."""
    moved = {carrier.node for carrier in walk.carriers if carrier.kind == "bias"}
    for node, fate in walk.shifts.items():
        parts = fate if isinstance(fate, list) else [fate]
        if node.op != "placeholder" and any(part is not None for part in parts):
            moved.add(node)
    return [node for node in graph.module.graph.nodes if node in moved]


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
    value: Tensor, change: Tensor, amount: Tensor, axis: int | None, name: str
) -> None:
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
