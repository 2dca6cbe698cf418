"""What each parameter does: a matrix, a bias, a norm's, a table, an offset, a scale."""

from collections.abc import Iterator, Mapping

from torch import fx, nn

from plumbob.survey.affine import CONVOLUTIONS, TABLES, affine, is_map
from plumbob.survey.affine import PRODUCTS as MATRICES
from plumbob.survey.graph import Graph, canonical
from plumbob.survey.modules import module_sites
from plumbob.survey.neighbours import PASSES, Origins, makes_weight
from plumbob.survey.ops import PRODUCTS, SUMS, argument, op, shape
from plumbob.survey.trace import sites
from plumbob.survey.views import View, views
from plumbob.types import Site

Role = tuple[str, str]  # its name, and why

# A parameter that is used in two ways gets the first of these.
ORDER = ("embedding", "bias", "norm", "offset", "scale", "recurrent", "matrix")
LOOK_UPS = TABLES | {"index", "index_select", "gather", "take"}
JOINS = {"cat", "stack", "index_put", "masked_scatter"}
SCORED = {"softmax", "_softmax", "_safe_softmax"}
ATTENTION = "scaled_dot_product_attention"

Use = tuple[fx.Node, fx.Node]  # what is read, and what reads it


def roles(model: nn.Module, graph: Graph | None) -> dict[str, Role]:
    """Return {name of a parameter: (its role, why)}, in registration order.

    With a graph the role is the place there: what is added to a map's result is a
    bias, whatever its shape and name; what is added elsewhere, joined or read as an
    input is an offset (learned positions, class tokens); what multiplies unit by unit
    is a scale. Where no graph knows a parameter its module says, and else its shape.
    """
    first = canonical(model)
    found = _of_sites(module_sites(model), ", by its module")
    if graph is not None:
        found |= _of_graph(model, graph)
    return {
        name: found.get(first.get(name, ""))
        or _by_shape(tuple(p.shape), "by its shape alone")
        for name, p in model.named_parameters()
    }


def _of_sites(known: tuple[Site, ...], how: str = "") -> dict[str, Role]:
    found: dict[str, Role] = {}
    for site in known:
        norm, table = site.kind == "norm", site.kind == "embedding"
        kind = site.kind if norm or table or site.kind == "recurrent" else "matrix"
        why = "scale of a norm" if norm else "looked up by index" if table else ""
        _add(found, site.weight, (kind, (why or "multiplies a map's input") + how))
        if site.bias:
            shift = ("norm", "shift of a norm") if norm else ("bias", "added to W x")
            _add(found, site.bias, (shift[0], shift[1] + how))
    return found


def _add(found: dict[str, Role], name: str, role: Role) -> None:
    if name not in found or ORDER.index(role[0]) < ORDER.index(found[name][0]):
        found[name] = role


def _by_shape(sizes: tuple[int, ...], why: str) -> Role:
    """Judge a parameter of which nothing else is known."""
    if len(sizes) == 3 and sizes[0] == 1:
        return "offset", f"rows for the whole batch, {why}"
    if sum(n > 1 for n in sizes) < 2:
        return "scale", f"a vector, {why}"
    return "matrix", f"two or more axes, {why}"


def _of_graph(model: nn.Module, graph: Graph) -> dict[str, Role]:
    walk = _Walk(graph)
    found = _of_sites(sites(model, graph))
    for node in graph.module.graph.nodes:
        if node.name not in graph.parameters:
            continue
        name = graph.parameters[node.name]
        table = name in found and found[name][0] == "embedding"
        if name not in found or table:
            seen = [walk.role(use, shape(node)) for use in walk.uses(node)]
            if table and seen and all(role == walk.SCORES for role in seen):
                found[name] = walk.SCORES
            for role in seen:
                _add(found, name, role)
    return found


class _Walk:
    """Follows a parameter to where it meets what depends on the input."""

    SCORES: Role = ("bias", "looked up and added to attention's scores")

    def __init__(self, graph: Graph):
        self.known: Mapping[fx.Node, View] = views(graph)
        self.origins = Origins(graph)

    def uses(self, start: fx.Node) -> Iterator[Use]:
        """Yield what reads a parameter, past what is made of parameters only."""
        todo, seen = [start], {start}
        while todo:
            at = todo.pop()
            for reader in at.users:
                if reader.op == "output":
                    continue
                passed = reader in self.origins.learned
                if not passed or op(reader) in LOOK_UPS or self._as_input(at, reader):
                    yield at, reader
                elif reader not in seen:
                    seen.add(reader)
                    todo.append(reader)

    def _as_input(self, at: fx.Node, reader: fx.Node) -> bool:
        """Say whether a map reads a parameter as it would read its input.

        Products with one vector are left out: so spectral norm iterates on weights.
        """
        if op(reader) == "mv" or not is_map(reader, self.origins.learned):
            return False
        return any(
            use.reads is at and not makes_weight(reader, self.origins, self.known)
            for use in affine(reader, self.known)
        )

    def role(self, use: Use, sizes: tuple[int, ...]) -> Role:
        """Return the role of a parameter in one use."""
        at, reader = use
        name = op(reader)
        if name in LOOK_UPS:
            return self._looked_up(reader)
        if name in SUMS:
            return self._added(at, reader)
        if name in JOINS:
            return "offset", "joined or put into the sequence"
        if name in PRODUCTS:
            return "scale", "multiplies unit by unit"
        if self._as_input(at, reader):
            return "offset", "a learned input of a map"
        if name in MATRICES | CONVOLUTIONS:
            place = 0 if name in {"addmm", "addmv", "baddbmm"} else 2
            if argument(reader, place, "bias") is at:
                return "bias", "added to W x"
            long = sum(n > 1 for n in sizes) > 1
            return "matrix" if long else "scale", "computed into a map's weight"
        return _by_shape(sizes, f"read by {name}")

    def _added(self, at: fx.Node, reader: fx.Node) -> Role:
        others = [n for n in reader.all_input_nodes if n is not at]
        other = self._behind(others[0] if others else at)
        units = [use.out for use in affine(other, self.known) if use.kind != "norm"]
        mine = 1
        for n in shape(at):
            mine *= n
        if mine in units or (not units and is_map(other, self.origins.learned)):
            return "bias", "added to W x"
        return "offset", "added, but to no map's units"

    def _looked_up(self, table: fx.Node) -> Role:
        if self._reaches_scores(table):
            return self.SCORES
        todo, seen = [table], {table}  # experts, chosen per sample
        while todo:
            at = todo.pop()
            for reader in at.users:
                if _batched(reader):
                    return "matrix", "looked up, and a map's weight then"
                others = [
                    self._behind(n) for n in reader.all_input_nodes if n is not at
                ]
                if op(reader) in SUMS and any(map(_batched, others)):
                    return "bias", "looked up, and added to W x then"
                if op(reader) in PASSES and reader not in seen:
                    seen.add(reader)
                    todo.append(reader)
        return "embedding", "looked up by index"

    def _behind(self, node: fx.Node) -> fx.Node:
        """Return what a node is a view or copy of."""
        while op(node) in PASSES and node.all_input_nodes:
            node = node.all_input_nodes[0]
        return node

    def _reaches_scores(self, start: fx.Node) -> bool:
        """Say whether looked-up rows are added to the scores of attention."""
        todo: list[tuple[fx.Node, bool]] = [(start, False)]
        seen: set[fx.Node] = set()
        while todo:
            at, added = todo.pop()
            for reader in at.users:
                name = op(reader)
                mask = argument(reader, 3, "attn_mask") if name == ATTENTION else None
                if mask is at or (added and name in SCORED):
                    return True
                adds = name in SUMS
                if reader not in seen and (adds or name in PASSES | {"slice"}):
                    seen.add(reader)
                    todo.append((reader, added or adds))
        return False


def _batched(node: fx.Node) -> bool:
    """Say whether a node multiplies by several matrices, as experts do."""
    return op(node) in {"bmm", "baddbmm"} or "grouped_mm" in op(node)
