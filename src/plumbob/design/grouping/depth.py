"""How deep each parameter lies: tables and what reads the input 0, a block one more."""

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import fx, nn

from plumbob.survey.graph import Graph, canonical
from plumbob.survey.neighbours import Origins

MATRICES = {"matrix", "recurrent"}
LOWEST = {"embedding", "offset"}
TABLES = "tables"  # as if they were a layer, of depth 0


def depths(
    model: nn.Module, roles: Mapping[str, str], graph: Graph | None
) -> tuple[dict[str, int], str]:
    """Return {name of a parameter: its depth}, and how that was found.

    A layer is a block (a child of a ModuleList or Sequential, or one of several
    siblings of a class; a stage that holds little but blocks is taken apart), and
    outside of blocks a module with a matrix of its own. With a graph a layer is one
    deeper than the deepest that it reads from; else than the one registered before.
    What is no layer goes with what comes before it, tables and offsets with 0.
    """
    units = _Units(model, roles)
    if graph is not None:
        found, how = _executed(model, units, roles, graph), "order in the graph"
    else:
        found, how = _registered(units, roles), "order of registration"
    count = f"{units.blocks} block" + "s" * (units.blocks > 1)
    blocks = f", a block as one layer ({count})" if units.blocks else ""
    return found, how + blocks


class _Units:
    """Which layer each parameter belongs to: `of` is its path, None outside of layers.

    `steps` counts the layers inside one recurrent module.
    """

    def __init__(self, model: nn.Module, roles: Mapping[str, str]):
        self.roles = roles
        self.of: dict[str, str | None] = dict.fromkeys(roles)
        self.steps: dict[str, int] = {}
        self.blocks = 0
        self._names = {id(p): name for name, p in model.named_parameters()}
        self._walk(model, "")

    def _mine(self, module: nn.Module, recurse: bool = True) -> list[str]:
        return [self._names[id(p)] for p in module.parameters(recurse=recurse)]

    def _maps(self, module: nn.Module) -> int:
        return sum(self.roles[name] in MATRICES for name in self._mine(module))

    def _walk(self, module: nn.Module, path: str) -> None:
        own = self._mine(module, recurse=False)
        if isinstance(module, nn.RNNBase):
            self._layers(module, path)
        elif any(self.roles[name] in MATRICES for name in own):
            self._claim(path, own)
        children = list(module.named_children())
        alike = Counter(type(child) for _, child in children)
        listed = isinstance(module, (nn.ModuleList, nn.Sequential))
        for name, child in children:
            inner = f"{path}.{name}".lstrip(".")
            block = listed or alike[type(child)] > 1
            deep = any(True for _ in child.children()) and self._maps(child) > 0
            if block and deep and not self._stage(child):
                self.blocks += 1
                self._claim(inner, self._mine(child))
            else:
                self._walk(child, inner)

    def _stage(self, module: nn.Module) -> bool:
        """Say whether a module is alike blocks and at most one map besides."""
        whole = self._maps(module)
        for inner in module.modules():
            if isinstance(inner, (nn.ModuleList, nn.Sequential)):
                parts = [part for part in inner.children() if self._maps(part)]
                if (
                    len({type(part) for part in parts}) == 1
                    and all(self._maps(part) > 1 for part in parts)
                    and whole - self._maps(inner) <= 1
                ):
                    return True
        return False

    def _claim(self, unit: str, names: list[str], step: int = 0) -> None:
        for name in names:
            if self.of[name] is None:
                self.of[name] = unit
        self.steps[unit] = step

    def _layers(self, module: nn.RNNBase, path: str) -> None:
        for i, weights in enumerate(module.all_weights):
            layer = i // (1 + module.bidirectional)
            names = [self._names[id(w)] for w in weights if id(w) in self._names]
            self._claim(f"{path}[layer {layer}]", names, layer)


def _registered(units: _Units, roles: Mapping[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    level: dict[str, int] = {}
    now = -1
    for name, role in roles.items():
        unit = units.of[name]
        if unit is None:
            now = max(now, 0) if role == "embedding" else now
            found[name] = 0 if role in LOWEST else max(now, 0)
            continue
        if unit not in level:
            now += 1
            level[unit] = now
        found[name] = level[unit]
    return found


def _executed(
    model: nn.Module, units: _Units, roles: Mapping[str, str], graph: Graph
) -> dict[str, int]:
    origins = Origins(graph)
    made: dict[fx.Node, frozenset[str]] = {}  # of which parameters, and nothing else
    past: dict[fx.Node, frozenset[str]] = {}  # the layers that were passed last
    reads: dict[str, set[str]] = {TABLES: set()}  # of layers, the layers they read
    loose: dict[str, frozenset[str]] = {}
    for node in graph.module.graph.nodes:
        parents = node.all_input_nodes
        used = frozenset[str]().union(*(made.get(n, ()) for n in parents))
        if node.name in graph.parameters:
            used = frozenset({graph.parameters[node.name]})
        if node in origins.learned:
            made[node] = used
            continue
        before = frozenset[str]().union(*(past.get(n, ()) for n in parents))
        own = {unit for name in used if (unit := units.of.get(name)) is not None}
        for unit in sorted(own, key=units.steps.__getitem__):
            if unit not in reads:
                within = {u for u in own if units.steps[u] < units.steps[unit]}
                reads[unit] = within
            known = list(reads)
            # a layer that is used again reads nothing that came after it
            reads[unit] |= before & set(known[: known.index(unit)])
        for name in used:
            loose.setdefault(name, before)
        if any(roles.get(name) == "embedding" for name in used):
            before |= {TABLES}
        past[node] = frozenset(own) or before
    level: dict[str, int] = {}
    for unit, sources in reads.items():
        level[unit] = max((level[u] + 1 for u in sources), default=0)
    found: dict[str, int] = {}
    last = 0
    for name, own_name in _own_names(model):
        unit = units.of[name]
        if unit is not None:
            last = level.get(unit, last)
        elif roles[name] in LOWEST:
            last = 0
        elif own_name in loose:
            last = max((level[u] for u in loose[own_name]), default=0)
        found[name] = last
    return found


def _own_names(model: nn.Module) -> Iterator[tuple[str, str]]:
    first = canonical(model)
    for name, _ in model.named_parameters():
        yield name, first.get(name, name)
