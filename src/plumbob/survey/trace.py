"""From a model to its graph, its affine maps and their neighbours."""

from dataclasses import dataclass, field, replace

from torch import fx, nn

from plumbob.survey.affine import Affine, affine, is_map
from plumbob.survey.bends import bends, gates
from plumbob.survey.graph import Graph as Graph
from plumbob.survey.graph import canonical as canonical
from plumbob.survey.graph import export as export
from plumbob.survey.graph import record as record
from plumbob.survey.lanes import Lane, carry
from plumbob.survey.modules import module_sites as module_sites
from plumbob.survey.names import Names
from plumbob.survey.neighbours import (
    After,
    Origins,
    after,
    ends_residual,
    makes_weight,
)
from plumbob.survey.norms import Norms, written_out
from plumbob.survey.ops import NORMS, NOTHING_READ, PRODUCTS, op
from plumbob.survey.stacked import stacked_on
from plumbob.survey.views import View, views
from plumbob.types import Feed, Site

Lanes = dict[str, Lane | None]


@dataclass(slots=True)
class _Use:
    """All that is known of one site; one that is used twice has two maps."""

    maps: list[Affine] = field(default_factory=list)
    after: list[After] = field(default_factory=list)
    feeds: dict[str, int | None] = field(default_factory=dict)
    fed_by: dict[str, None] = field(default_factory=dict)
    reads_input: bool = False
    is_output: bool = False
    ends_residual: bool = False

    def activation(self) -> After:
        """Return what follows the map, where all uses agree."""
        if len(set(self.after)) != 1:
            return After()
        ends = frozenset[fx.Node]().union(*(after.ends for after in self.after))
        return replace(self.after[0], ends=ends)


def sites(model: nn.Module, graph: Graph) -> tuple[Site, ...]:
    """Return the affine maps, tables and norms of a graph in execution order."""
    return structure(model, graph)[0]


def structure(
    model: nn.Module, graph: Graph
) -> tuple[tuple[Site, ...], tuple[str, ...]]:
    """Return the sites of a graph in execution order, and what bends besides.

    Norms let units through: `feeds` and `fed_by` of a map skip them, while a norm's
    own name the maps around it. A site that is used several times has the neighbours
    of all uses, and an activation or norm only where all uses agree. A map whose
    weight is computed (weight norm, a low-rank update) is no site, and what reads it
    is fed by none.
    """
    walk = _Walk(model, graph)
    for node in graph.module.graph.nodes:
        walk.step(node)
    return tuple(walk.site(name) for name in walk.uses), walk.bends()


class _Walk:
    """One pass over the graph that carries along where each site's units lie."""

    def __init__(self, model: nn.Module, graph: Graph):
        self.graph = graph
        self.known: dict[fx.Node, View] = views(graph)
        self.norms: Norms = written_out(graph.module.graph, self.known)
        self.origins = Origins(graph)
        self.names = Names(model)
        self.uses: dict[str, _Use] = {}
        self.lanes: dict[fx.Node, Lanes] = {}
        self.made: dict[fx.Node, str] = {}  # by which site
        # a map, or a batch norm, which centres, lies between it and the input
        self.mapped: set[fx.Node] = set()
        self.tables = dict(model.named_parameters(remove_duplicate=False))

    def step(self, node: fx.Node) -> None:
        if node.op == "output":
            return
        none = self._iterates(node) or makes_weight(node, self.origins, self.known)
        maps = [] if none else list(affine(node, self.known))
        if node in self.norms.gains:
            maps = [self.norms.gains[node]]
        if maps and maps[0].kind != "norm":
            self.lanes[node] = self._enter(maps)
            self.mapped.add(node)
        else:
            self.lanes[node] = self._through(node)
            if any(p in self.mapped for p in node.all_input_nodes):
                self.mapped.add(node)
            if NORMS.get(op(node)) == "batch-norm":
                self.mapped.add(node)
            if is_map(node, self.origins.learned):
                self.lanes[node] = {}
                self.mapped.add(node)
            for norm in maps:
                self._enter([norm])
                self.lanes[node][self._name(norm)] = Lane(norm.axis_out)
        if node.name in self.graph.outputs:
            for name in self.lanes[node]:
                self.uses[name].is_output = True

    def _iterates(self, node: fx.Node) -> bool:
        """Say whether a node is a step of a power iteration, as in spectral norm."""
        return op(node) == "mv" and node not in self.origins.live

    def _name(self, use: Affine) -> str:
        return self.names.of(use)

    def _enter(self, maps: list[Affine]) -> Lanes:
        """Note what the maps of one node read; return where their units lie."""
        layers = sorted({use.layer or 0 for use in maps})
        incoming: Lanes = dict(self._read(maps[0]))
        for layer in layers:
            mine = [use for use in maps if (use.layer or 0) == layer]
            outgoing: Lanes = {}
            cell: Lanes = {}  # the maps of one direction
            for use in mine:
                name = self._name(use)
                entry = self.uses.setdefault(name, _Use())
                entry.maps.append(use)
                reads = dict(incoming)
                if use.hidden:
                    reads = {**self._hidden(use), **cell}
                else:
                    cell = {}
                self._link(name, use, reads)
                entry.reads_input |= layer == 0 and not use.hidden and self._raw(use)
                if use.layer is None:
                    self.made[use.node] = name
                    entry.after.append(after(use, self.known, self.norms))
                    entry.ends_residual |= use.kind != "norm" and ends_residual(
                        use.node, self.origins, self.norms
                    )
                    outgoing[name] = Lane(use.axis_out)
                else:
                    entry.after.append(After(bias=use.bias))
                    cell[name] = outgoing[name] = None
            incoming = outgoing
        return incoming

    def _read(self, use: Affine) -> Lanes:
        return self.lanes.get(use.reads, {}) if use.reads is not None else {}

    def _raw(self, use: Affine) -> bool:
        """Say whether a map reads the model's input as it comes."""
        return use.reads in self.origins.live and use.reads not in self.mapped

    def _hidden(self, use: Affine) -> Lanes:
        """Return what reaches a recurrent operation other than by its input."""
        others = [n for n in use.node.all_input_nodes if n is not use.reads]
        return {name: None for n in others for name in self.lanes.get(n, {})}

    def _link(self, reader: str, use: Affine, reads: Lanes) -> None:
        for name, lane in reads.items():
            source = self.uses[name]
            if use.kind == "norm" and source.maps[0].kind == "norm":
                continue
            aligned = lane is not None and lane.axis == use.axis_in and use.groups == 1
            repeat = lane.repeat if lane is not None and aligned else None
            if use.kind != "norm":
                known = source.feeds.setdefault(reader, repeat)
                if known != repeat:
                    source.feeds[reader] = None
            if source.maps[0].kind != "norm":
                self.uses[reader].fed_by[name] = None

    def _through(self, node: fx.Node) -> Lanes:
        """Carry lanes through a node that is no map."""
        if node in self.norms.scaled:
            origin = self.norms.scaled[node][0]
            return dict(self.lanes[origin])
        if op(node) in NOTHING_READ:
            return {}
        read = [n for n in node.all_input_nodes if self.lanes.get(n)]
        carried: Lanes = {}
        gated = op(node) in PRODUCTS | {"pow"} and any(
            self.lanes[n] != self.lanes[read[0]] for n in read
        )
        for source in read:
            for name, lane in self.lanes[source].items():
                new = None if gated else carry(node, source, lane)
                if carried.setdefault(name, new) != new:
                    carried[name] = None
        return carried

    def bends(self) -> tuple[str, ...]:
        """Return the operations that bend and are no site's activation."""
        known = {n for use in self.uses.values() for n in use.activation().ends}
        return bends(self.graph, self.origins, known)

    def _stacked(self, use: _Use) -> str | None:
        """Return the site that a map stands on, where both are used once."""
        below = stacked_on(use.maps[0], self.made, self.known)
        twice = len(use.maps) > 1 or (below and len(self.uses[below].maps) > 1)
        return None if twice else below

    def site(self, name: str) -> Site:
        use = self.uses[name]
        first = use.maps[0]
        weight = first.weight
        bias = use.after[0].bias if first.kind != "norm" else first.bias
        same = use.activation()
        cut = weight.cut
        out_axis = -1 if first.kind == "norm" else first.transposed
        return Site(
            name=name,
            kind=first.kind if not self.names.recurrent(weight.name) else "recurrent",
            out=first.out,
            fan_in=first.fan_in,
            weight=weight.name,
            bias=bias.name if bias else None,
            rows=cut[1:] if cut and cut[0] == out_axis else None,
            groups=first.groups,
            transposed=first.transposed,
            feeds=tuple(Feed(site=s, repeat=r) for s, r in use.feeds.items()),
            fed_by=tuple(use.fed_by),
            activation=same.activation,
            norm=same.norm,
            tied=self.names.others(weight.name),
            trainable=self.tables[weight.name].requires_grad,
            stacked_on=self._stacked(use),
            reads_input=use.reads_input,
            is_output=use.is_output,
            ends_residual=use.ends_residual,
            gates=gates(same.ends, self.origins),
        )
