"""Where an additive shift of a parameter goes: the proofs of redundancy.

The shift is followed through the graph of the model, in one pass in the order of
execution, until something removes it (it is null), another parameter could carry it
as well (it is a gauge), or an output sees it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

from torch import fx, nn

from plumbob.survey import seeds
from plumbob.survey.flow import Flow, Walk
from plumbob.survey.graph import Graph, canonical
from plumbob.survey.parts import storage
from plumbob.survey.replay import Claim, replays
from plumbob.survey.seeds import Move, redundant
from plumbob.types import Proof, leans


def proofs(
    model: nn.Module, training: Graph | None, inference: Graph | None
) -> tuple[Proof, ...]:
    """Return the theorems about the vectors of a model, without what proves them."""
    return tuple(theorems(model, training, inference))


def theorems(
    model: nn.Module, training: Graph | None, inference: Graph | None
) -> dict[Proof, dict[str, Walk]]:
    """Prove which rows of which vectors nothing sees or another parameter could carry.

    Beside each theorem stand the walks that prove it, by mode.

    Each theorem is put to a randomised test in float64 where one is possible: what
    fails it is not shown, and what could not be tested has no `error` but a step that
    says why.
    """
    return _theorems(model, training, inference, _vectors)


def offsets(
    model: nn.Module, training: Graph | None, inference: Graph | None
) -> dict[Proof, dict[str, Walk]]:
    """Prove along which axes of its parameters one number may be added, unseen.

    W x + 1 (a.x) is W x to all that removes what its inputs have in common, so a row
    may be added to all rows of a matrix, a number to each row of an embedding, and one
    to a bias; also where a bias has theorems that say more. They are tested as those.
    """
    return _theorems(model, training, inference, _offsets)


Found = tuple[str, Move, Walk]


def _theorems(
    model: nn.Module,
    training: Graph | None,
    inference: Graph | None,
    search: Callable[[Flow, Set[str]], list[Found]],
) -> dict[Proof, dict[str, Walk]]:
    found: dict[tuple[str, Move], dict[str, tuple[Walk, float | None, str]]] = {}
    known: dict[fx.GraphModule, list[Any]] = {}  # one graph may do for both modes
    for mode, graph in (("training", training), ("inference", inference)):
        if graph is not None:
            if graph.module not in known:
                known[graph.module] = list(_proved(model, graph, search))
            for key, verdict in known[graph.module]:
                found.setdefault(key, {})[mode] = verdict
    either = [g for g in (training, inference) if g is not None]
    on_this_path = any(g.on_this_path for g in either)
    return {
        _proof(key, verdicts, on_this_path): {
            mode: walk for mode, (walk, _, _) in verdicts.items()
        }
        for key, verdicts in found.items()
    }


def _proof(
    key: tuple[str, Move],
    verdicts: Mapping[str, tuple[Walk, float | None, str]],
    on_this_path: bool,
) -> Proof:
    steps: list[str] = []
    for mode, (walk, _, untested) in verdicts.items():
        lines = [*walk.steps, *([untested] if untested else [])]
        if len(verdicts) == 1 or len({v[0].steps for v in verdicts.values()}) > 1:
            lines = [f"in {mode}: {line}" for line in lines]
        steps += [line for line in lines if line not in steps]
    kinds = {
        mode: "gauge" if walk.carriers else "null"
        for mode, (walk, _, _) in verdicts.items()
    }
    walks = [walk for walk, _, _ in verdicts.values()]
    first, (parameter, move) = walks[0], key
    errors = [error for _, error, _ in verdicts.values()]
    return Proof(
        parameter=parameter,
        rows=(move.lo, move.hi),
        direction=move.direction,
        groups=move.groups,
        carriers=tuple(dict.fromkeys(c.name for w in walks for c in w.carriers)),
        source=first.source,
        through=tuple(dict.fromkeys(kind for w in walks for kind in w.through)),
        by=first.carriers[-1].kind if first.carriers else first.ends[-1],
        training=kinds.get("training"),
        inference=kinds.get("inference"),
        steps=tuple(steps),
        error=None if None in errors else max(e for e in errors if e is not None),
        on_this_path=on_this_path,
        norm=_norm(verdicts["inference"][0]) if "inference" in verdicts else None,
        axis=move.axis,
    )


def _norm(walk: Walk) -> str | None:
    """Return the batch norm whose running mean meets the shift just as it was added."""
    if len(walk.carriers) != 1 or walk.carriers[0].kind != "batch-norm" or walk.ends:
        return None
    carrier = walk.carriers[0]
    moved = [n for n, shift in walk.shifts.items() if shift and n.op != "placeholder"]
    return carrier.name.rpartition(".")[0] if moved == [carrier.node.args[0]] else None


def _proved(
    model: nn.Module, graph: Graph, search: Callable[[Flow, Set[str]], list[Found]]
) -> Iterator[tuple[tuple[str, Move], tuple[Walk, float | None, str]]]:
    """Yield what is proved in one graph and passes the randomised test."""
    walks = search(Flow(graph), _shared(model))
    trials = replays(model, graph, [_claim(*found) for found in walks])
    for (parameter, move, walk), trial in zip(walks, trials, strict=True):
        if trial.holds:
            yield (parameter, move), (walk, trial.error, trial.untested)


def _vectors(flow: Flow, shared: Set[str]) -> list[Found]:
    walks = [
        (parameter, move, walk)
        for parameter in dict.fromkeys(flow.graph.parameters.values())
        if parameter not in shared
        for move, walk in redundant(flow, parameter, avoid=shared)
    ]
    return _untangled(flow, walks, shared)


def _offsets(flow: Flow, shared: Set[str]) -> list[Found]:
    return [
        (parameter, move, walk)
        for parameter in flow.placeholders
        if parameter not in shared
        for move, walk in seeds.offsets(flow, parameter)
    ]


def _untangled(flow: Flow, walks: Sequence[Found], avoid: Set[str]) -> list[Found]:
    """Let no two parameters carry each other where a third one can carry both.

    Else the later of the two may have a direction left that nothing sees.
    """
    untangled: list[Found] = []
    carried: dict[str, set[str]] = {}
    for parameter, move, walk in walks:
        names = {c.name for c in walk.carriers}
        others = [(move, walk)]
        if any(leans(name, parameter, carried) for name in names):
            circle = {name for name in carried if leans(name, parameter, carried)}
            again = redundant(flow, parameter, avoid=circle | avoid)
            inside = [a for a in again if move.lo <= a[0].lo and a[0].hi <= move.hi]
            others = inside or others
        for other, how in others:
            names = {c.name for c in how.carriers}
            if not any(leans(name, parameter, carried) for name in names):
                carried.setdefault(parameter, set()).update(names)
            untangled.append((parameter, other, how))
    return untangled


def _claim(parameter: str, move: Move, walk: Walk) -> Claim:
    met = {c.node for c in walk.carriers}
    return Claim(
        parameter,
        move.lo,
        move.hi,
        {c.node: (c.name, c.axis) for c in walk.carriers if c.kind != "rnn"},
        frozenset(walk.shifts) | met,
        groups=0 if move.direction == "each" else move.groups,
        against=frozenset(c.name for c in walk.carriers if c.kind == "rnn"),
        axis=move.axis,
    )


def _shared(model: nn.Module) -> set[str]:
    """Return the parameters in whose memory another one lies, in another form.

    Shifting one shifts the other, which a walk from one of them alone would miss.
    """
    places: dict[int, set[str]] = {}
    for name, first in canonical(model).items():
        places.setdefault(storage(model.get_parameter(name)), set()).add(first)
    return set[str]().union(*(names for names in places.values() if len(names) > 1))
