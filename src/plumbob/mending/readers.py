"""Who reads a node of a graph, and through what."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import fx, nn
from torch.utils import _pytree as pytree

from plumbob.errors import InputError
from plumbob.mending.hooks import hooked, passed, stack
from plumbob.survey.affine import Affine, affine
from plumbob.survey.calls import strays
from plumbob.survey.flow import Flow
from plumbob.survey.graph import Graph
from plumbob.survey.lanes import Lane, carry
from plumbob.survey.ops import DROPOUT, SAME, SHAPE, argument, op, words
from plumbob.survey.views import View, views
from plumbob.survey.writable import writable

KINDS = {"linear", "conv", "conv-transpose", "recurrent"}
PADS = words("pad constant_pad_nd")
PARTS = words("split split_with_sizes chunk unbind")
# a s + t, unit by unit, of what they return is what they return of a s + t
MOVES = (
    SAME
    | SHAPE
    | PADS
    | words("getitem slice select mean")
    | words("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d")
    | words("_adaptive_avg_pool2d _adaptive_avg_pool3d")
)
SPLITS = words("slice select mean expand") | PADS


@dataclass(frozen=True, slots=True)
class Reader:
    """A map that reads units, which lie in its input as `lane` says.

    `reads` is that input. `padded`: zeros stand among what it reads, or (transposed)
    some places read less.
    """

    use: Affine
    reads: fx.Node
    lane: Lane
    padded: bool


class Readers:
    """Finds maps around the nodes of one graph of a model."""

    def __init__(self, model: nn.Module, graph: Graph) -> None:
        self.model, self.graph = model, graph
        self.known = views(graph)
        self.flow = Flow(graph)
        self.strays = strays(model, graph)

    def users(self, node: fx.Node) -> list[fx.Node]:
        """Return what reads a node, as far as outputs see it; the output is one."""
        if node.name in self.graph.outputs:
            return list(node.users)
        return [user for user in node.users if user in self.flow.read]

    def before(self, node: fx.Node, lane: Lane) -> Affine | None:
        """Return the map whose units a node takes as they are, if there is one."""
        path = [node]
        while not (uses := self._maps(path[-1])):
            if op(path[-1]) not in MOVES - SPLITS or not path[-1].args:
                return None
            path.append(path[-1].all_input_nodes[0])
        at: Lane | None = Lane(uses[0].axis_out)
        for source, reader in zip(path[::-1], path[-2::-1], strict=False):
            at = carry(reader, source, at)
        (use,) = uses if len(uses) == 1 else (None,)
        return use if use and use.kind != "recurrent" and at == lane else None

    def sole(self, node: fx.Node, source: fx.Node) -> None:
        """Check that nothing but a node reads what lies between it and a source.

        Raises:
            InputError: something does, be it a hook.
        """
        mine = node
        for at in between(node.all_input_nodes[0], source):
            if others := [_what(user) for user in self.users(at) if user is not mine]:
                raise InputError(f"what it reads goes to {' and '.join(others)} too")
            mine = at
        self.unhooked(node.all_input_nodes[0], source)

    def after(
        self, node: fx.Node, lane: Lane, padded: bool = False
    ) -> Iterator[Reader]:
        """Yield the maps that read the units of a node.

        Raises:
            InputError: something else reads them.
        """
        for user in self.users(node):
            uses = [u for u in self._maps(user) if u.reads is node]
            leaves = pytree.tree_leaves((user.args, user.kwargs))
            there = carry(user, node, lane) if op(user) in MOVES | DROPOUT else None
            if uses and leaves.count(node) == 1 and uses[0].axis_in == lane.axis:
                for use in uses:
                    yield Reader(use, node, lane, padded or _padded(use))
            elif there is not None and not _random(user):
                yield from self.after(user, there, padded or _fills(user))
            else:
                raise InputError(f"{_what(user)} reads it, which is no map of its own")

    def unhooked(self, node: fx.Node, source: fx.Node) -> None:
        """Check that no hook sees the values that go from a source to a node.

        Raises:
            InputError: one does.
        """
        way = list(between(node, source))
        steps = [(at, user) for at in way for user in at.users]
        sides = [stack(at) ^ stack(u) for at, u in steps if u.op != "output"]
        crossed = sorted(set[str]().union(*sides))
        why = hooked(self.model, [f"{path}.weight" for path in crossed], ())
        if why := why or passed(self.model, way):
            raise InputError(why)

    def own(self, use: Affine, *, shifted: bool = True) -> None:
        """Check that a map's parameters are its own, and read by it alone.

        Where it is to be `shifted`, it must have a bias, or be able to get one.

        Raises:
            InputError: they are not.
        """
        for view in _views(use):
            writable(self.model, view.name, frozen=True)
        name = use.weight.name
        if "parametrizations" in name.split("."):
            raise InputError(
                f"{name} is parametrised; remove the parametrisation first"
            )
        shapes = [self.model.get_parameter(view.name).shape for view in _views(use)]
        one = any(len(b) != 1 or b[0] < use.out for b in shapes[1:])
        if one or (use.kind == "linear" and len(shapes[0]) != 2):
            raise InputError(f"{name} is no matrix, or its bias no vector of its units")
        layer = self.model.get_submodule(name.rpartition(".")[0])
        nodes = use.node.all_input_nodes
        self.once(n for n in nodes if self.known.get(n) in _views(use))
        if shifted and use.bias is None and not self._takes_bias(layer, name):
            raise InputError(f"the map of {name} has no bias and can be given none")

    def once(self, nodes: Iterable[fx.Node]) -> None:
        """Check that parameters, or these parts of them, are read at one place.

        Raises:
            InputError: they are read again.
        """
        for node in nodes:
            at = node
            while len(self.users(at)) == 1 or op(at) in PARTS:
                if at.op == "placeholder":
                    break
                at = at.all_input_nodes[0]
            owner = self.graph.parameters.get(at.name, at.name)
            if (
                at.op != "placeholder"
                or len(self.users(at)) != 1
                or len(self.flow.placeholders.get(owner, ())) != 1
            ):
                raise InputError(
                    f"{owner} is used more than once, as where a layer is called twice"
                )

    def _takes_bias(self, layer: nn.Module, weight: str) -> bool:
        kinds = (nn.Linear, nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage]
        return isinstance(layer, kinds) and weight not in self.strays

    def _maps(self, node: fx.Node) -> list[Affine]:
        return [
            use
            for use in affine(node, self.known)
            if use.kind in KINDS and not use.hidden and not use.layer
        ]


def between(node: fx.Node, source: fx.Node) -> Iterator[fx.Node]:
    """Yield a node and those that it was moved through, back to a source."""
    yield node
    while node is not source:
        node = node.all_input_nodes[0]
        yield node


def result(node: fx.Node) -> fx.Node:
    """Return the first of what an operation returns."""
    parts = [user for user in node.users if op(user) == "getitem"]
    return next((part for part in parts if part.args[1] == 0), node)


def _views(use: Affine) -> list[View]:
    return [use.weight] if use.bias is None else [use.weight, use.bias]


def _random(node: fx.Node) -> bool:
    return op(node) in DROPOUT and argument(node, 2, "train", True) is not False


def _fills(node: fx.Node) -> bool:
    """Return whether a node pads with a number, and not with values of its input."""
    named = op(node) == "pad" and argument(node, 2, "mode", "constant") != "constant"
    return op(node) in PADS and not named


def _padded(use: Affine) -> bool:
    if use.kind == "conv-transpose":
        return True
    padding = argument(use.node, 4, "padding", 0) if use.kind == "conv" else 0
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, list | tuple) else bool(padding)


def _what(node: fx.Node) -> str:
    return f"a {op(node)}" if op(node) else "the output"
