"""The moves of one parameter that are followed: each row, the constant, by group."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal

from torch import fx

from plumbob.survey.amounts import SEED
from plumbob.survey.domain import Shift, name, shape
from plumbob.survey.flow import Flow, Walk
from plumbob.survey.transfer import floats

MOST_CUTS = 1024  # rows of a packed parameter are looked at in at most so many parts
MOST_GROUPINGS = 8


@dataclass(frozen=True, slots=True)
class Move:
    """Rows lo..hi of an axis and how they move; the words are those of `Proof`."""

    lo: int
    hi: int
    direction: Literal["each", "constant", "group"] = "each"
    groups: int = 1
    axis: int = 0

    def seed(self, sizes: Sequence[int]) -> Shift:
        """Return the shift of a parameter of these sizes.

        It varies along all other axes. That of a matrix has no name: what it adds
        depends on what it is multiplied by.
        """
        size, mine = sizes[self.axis], self.hi - self.lo
        axis = {
            "each": ((size, True),),
            "constant": ((size, False),),
            "group": ((self.groups, True), (size // self.groups, False)),
        }[self.direction]
        if self.direction == "group" and mine != size:
            width = mine // self.groups
            axis = ((size // width, True), (width, False))
        within = () if mine == size else ((self.axis, self.lo, self.hi),)
        axes = [axis if i == self.axis else ((n, True),) for i, n in enumerate(sizes)]
        named = SEED if len(sizes) == 1 else None
        return Shift(tuple(axes), depends=False, within=within, amount=named)


def redundant(
    flow: Flow, parameter: str, avoid: Collection[str] = ()
) -> Iterator[tuple[Move, Walk]]:
    """Yield the moves of a vector that are null or a gauge, not of those to `avoid`.

    Rows that are not so by themselves may be so together: they are tried by their
    constant, and that by one number for each group.
    """
    nodes = flow.placeholders[parameter]
    sizes = shape(nodes[0])
    if len(sizes) != 1 or not sizes[0] or not floats(nodes[0]):
        return
    size = sizes[0]

    def walk(move: Move) -> Walk:
        return flow.unseen(dict.fromkeys(nodes, move.seed(sizes)), avoid)

    whole = walk(Move(0, size))
    found: dict[Move, Walk] = {}
    cuts = list(pairwise(_cuts(size, whole.shifts, flow.arguments)))
    if not whole.seen:
        found[Move(0, size)] = whole
        if whole.carriers and len(cuts) not in {1, 3}:  # of keys and values, say
            parts = {Move(*cut): walk(Move(*cut)) for cut in cuts}
            found = found if any(w.seen for w in parts.values()) else parts
        for move, proof in _merged(found, walk):
            if proof.ends or proof.carriers:
                yield move, proof
        return
    rest: list[Move] = []
    for lo, hi in cuts if len(cuts) > 1 else ():
        part = walk(Move(lo, hi))
        if part.seen:
            rest.append(Move(lo, hi, "constant"))
        else:
            found[Move(lo, hi)] = part
    for move in rest:
        if not (part := walk(move)).seen:
            found |= _finer(size, move, part, walk, flow)
    together = Move(0, size, "constant")
    if not found and not (shared := walk(together)).seen:
        found = _finer(size, together, shared, walk, flow)
    for move, proof in _merged(found, walk):
        if proof.ends or proof.carriers:
            yield move, proof


def offsets(flow: Flow, parameter: str) -> Iterator[tuple[Move, Walk]]:
    """Yield the axes of a parameter along which one number may be added, unseen.

    The number may be another one for each place along the other axes: to W it is a
    row that is added to all rows.
    """
    nodes = flow.placeholders[parameter]
    sizes = shape(nodes[0])
    if not floats(nodes[0]):
        return

    def walk(move: Move) -> Walk:
        seeds = dict.fromkeys(nodes, move.seed(sizes))
        return flow.follow(seeds, absorb=False)

    for axis, size in enumerate(sizes):
        move = Move(0, size, "constant", axis=axis)
        if size > 1 and not (proof := walk(move)).seen and proof.ends:
            yield from _finer(size, move, proof, walk, flow).items()


def _finer(
    size: int, move: Move, proof: Walk, walk: Callable[[Move], Walk], flow: Flow
) -> dict[Move, Walk]:
    """Return the finest grouping for which a constant may differ between groups."""
    rows = move.hi - move.lo
    if rows == 1:
        return {replace(move, direction="each"): proof}
    for groups in _groupings(rows, proof.shifts, flow.arguments):
        width = rows // groups
        if move.lo % width or size % width:
            continue
        finer = replace(move, direction="group", groups=groups)
        if not (apart := walk(finer)).seen:
            return {finer: apart}
    return {move: proof}


def _groupings(
    size: int, shifts: Mapping[fx.Node, Any], arguments: Mapping[fx.Node, Any]
) -> list[int]:
    """Return numbers of equal groups that norms and views make, the finest first."""
    found: set[int] = set()
    for node in shifts:
        kind = name(node)
        if kind in {"group_norm", "native_group_norm"}:
            named = arguments[node]
            found.add(named.get("num_groups") or named["group"])
        elif kind in {"view", "reshape", "_unsafe_view", "unflatten"}:
            found |= set(shape(node))
    fit = [n for n in found if 1 < n < size and size % n == 0]
    return sorted(fit, reverse=True)[:MOST_GROUPINGS]


def _merged(
    found: Mapping[Move, Walk], walk: Callable[[Move], Walk]
) -> Iterator[tuple[Move, Walk]]:
    """Draw neighbouring rows together that go the same way."""
    last: tuple[Move, Walk] | None = None
    for move, mine in sorted(found.items(), key=lambda item: item[0].lo):
        if last and _alike(*last, move, mine):
            whole = replace(last[0], hi=move.hi)
            if not (both := walk(whole)).seen:
                last = whole, both
                continue
        if last:
            yield last
        last = move, mine
    if last:
        yield last


def _alike(a: Move, one: Walk, b: Move, other: Walk) -> bool:
    places = [[(c.name, c.node) for c in walk.carriers] for walk in (one, other)]
    return (
        a.hi == b.lo
        and a.direction == b.direction == "each"
        and one.ends == other.ends
        and places[0] == places[1]
    )


def _cuts(
    size: int, shifts: Mapping[fx.Node, Any], arguments: Mapping[fx.Node, Any]
) -> list[int]:
    """Return where a packed vector may be cut: thirds, and wherever it is split."""
    cuts = {0, size} | ({size // 3, 2 * size // 3} if size % 3 == 0 else set())
    for node in shifts:
        source = next(iter(node.all_input_nodes), None)
        sizes = shape(source) if source is not None else ()
        if not sizes or sizes[-1] != size:
            continue
        named, kind = arguments[node], name(node)
        if kind in {"split", "split_with_sizes", "chunk"}:
            ends = list(accumulate(part.shape[-1] for part in node.meta["val"]))
            cuts |= set(ends) if ends[-1] == size else set()
        elif kind == "slice":
            lo, hi, _ = slice(named["start"], named["end"]).indices(size)
            cuts |= {lo, hi}
        elif kind == "view" and 3 in shape(node)[len(sizes) - 1 :]:
            inner = shape(node)[-1]
            cuts |= set(range(0, size, inner)) if size // inner < MOST_CUTS else set()
    return sorted(cuts)
