"""A graph computed from parameters that are read only where they are needed.

Several variants of the parameters go through it side by side, operation by operation:
held are what the operations still to come need and the operands of one, and of a matrix
that a linear map multiplies no more than a block of its rows.
"""

import ctypes
import operator
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, fx
from torch.nn.functional import linear
from torch.utils import _pytree as pytree

from plumbob.errors import InputError, one_line
from plumbob.survey.domain import name
from plumbob.survey.edit import Edit
from plumbob.survey.graph import Graph

Edits = Mapping[str, Sequence[Edit]]
NONE: Edits = {}
LARGE = 1 << 20  # numbers


@runtime_checkable
class Store(Protocol):
    """The values of parameters and buffers by name."""

    def dtype(self, name: str) -> torch.dtype:
        """Return what the values of a tensor are stored as."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the size of a tensor along each axis."""
        ...

    def blocks(self, name: str) -> Iterator[tuple[int, Tensor]]:
        """Yield the rows of a tensor, as stored, and the number of the first one."""
        ...

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Return rows of a tensor as stored; the numbers ascend, each is there once."""
        ...


def blocks(
    store: Store, name: str, edits: Sequence[Edit] = ()
) -> Iterator[tuple[int, Tensor]]:
    """Yield the rows of a tensor in float64 as edits leave them."""
    for first, block in store.blocks(name):
        yield first, _edited(block, first, edits)


def whole(store: Store, name: str, edits: Sequence[Edit] = ()) -> Tensor:
    """Return a tensor in float64 as edits leave it."""
    return _cat([block for _, block in blocks(store, name, edits)])


def evaluate(
    graph: Graph,
    given: Mapping[fx.Node, Sequence[Any]],
    store: Store,
    variants: Sequence[Edits] = (NONE,),
    *,
    nodes: Iterable[fx.Node] | None = None,
    keep: Collection[fx.Node] = (),
    rejoin: Collection[fx.Node] = (),
    wide: bool = True,
) -> dict[fx.Node, list[Any]]:
    """Compute nodes of a graph in float64, or as stored, once per variant.

    Args:
        graph: of the model.
        given: the values of nodes that are not computed, per variant or one for all.
        store: of the parameters and buffers.
        variants: what is done to these.
        nodes: to compute, in order; if not given, all that those to keep depend on.
        keep: whose values are returned.
        rejoin: where all variants go on as the first one.
        wide: in float64.

    Raises:
        InputError: the graph does what cannot be computed piece by piece.
    """
    run = _Run(graph, store, variants, wide)
    order = _behind(graph, keep) if nodes is None else list(nodes)
    wanted = {node for node in order if node.op == "call_function"}
    left = {n: sum(user in wanted for user in n.users) for n in given}
    left |= {n: sum(user in wanted for user in n.users) for n in order}
    run.held.update(given)
    kept: dict[fx.Node, list[Any]] = {}
    for number, node in enumerate(order):
        if node in wanted:
            result = run.results(node, number)
            if node in keep:
                kept[node] = result
            run.held[node] = result[:1] if node in rejoin else result
        for source in node.all_input_nodes if node in wanted else ():
            if source in left:
                left[source] -= 1
                if not left[source]:
                    run.held.pop(source, None)
    return kept


def _behind(graph: Graph, nodes: Iterable[fx.Node]) -> list[fx.Node]:
    """Return nodes and all that they depend on, in order."""
    wanted, every = set(nodes), list(graph.module.graph.nodes)
    for node in reversed(every):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    return [node for node in every if node in wanted]


class _Run:
    """What is held while a graph is computed."""

    def __init__(
        self, graph: Graph, store: Store, variants: Sequence[Edits], wide: bool
    ) -> None:
        self.names = {**graph.buffers, **graph.parameters}
        self.store, self.variants, self.wide = store, variants, wide
        self.module = graph.module
        self.held: dict[fx.Node, Sequence[Any]] = {}

    def results(self, node: fx.Node, seed: int) -> list[Any]:
        kind, args = name(node), node.args
        if kind == "linear" and self.is_stored(args[1]):
            return self.linear(node)
        if kind == "embedding" and self.is_stored(args[0]):
            return self.embedding(node)
        sources = {n: self.values(n) for n in node.all_input_nodes}
        results: list[Any] = []
        draws = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        for i in range(len(self.variants)):
            if draws:
                torch.manual_seed(seed)  # the same for all
            mine = {n: found[i % len(found)] for n, found in sources.items()}
            results.append(self.call(node, mine))
        return results

    def call(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        """Compute an operation.

        Raises:
            InputError: it fails.
        """
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        args, kwargs = pytree.tree_map_only(torch.device, _real, (args, kwargs))
        if self.wide:
            args, kwargs = pytree.tree_map_only(torch.dtype, _double, (args, kwargs))
        if node.target is operator.getitem:
            return args[0][args[1]]
        try:
            return node.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
        except Exception as error:  # an operation may refuse float64, or this device
            raise InputError(
                f"expected operations that can be computed one by one, got {name(node)}"
                f", which fails: {one_line(error)}"
            ) from error

    def is_stored(self, node: Any) -> bool:
        return isinstance(node, fx.Node) and node not in self.held

    def values(self, node: fx.Node) -> Sequence[Any]:
        """Return what a node holds, per variant or one for all.

        Raises:
            InputError: it is neither computed nor stored.
        """
        if node in self.held:
            return self.held[node]
        if node.op == "placeholder" and node.name in self.names:
            return self.whole(self.names[node.name])
        raise InputError(
            f"expected a graph that can be computed operation by operation, got "
            f"{node.op} {node.name}; load the checkpoint whole"
        )

    def whole(self, owner: str) -> list[Tensor]:
        """Return a tensor for all variants; those that are alike share it."""
        kinds, which = self.kinds(owner)
        shape = self.store.shape(owner)
        found: list[Tensor] = []
        for first, rows in self.blocks(owner, kinds):
            if rows[0].shape == shape:
                found = rows
                break
            found = found or [part.new_empty(shape) for part in rows]
            for into, part in zip(found, rows, strict=True):
                into[first : first + len(part)] = part
        return [found[i] for i in which]

    def kinds(self, owner: str) -> tuple[list[Sequence[Edit]], list[int]]:
        """Return what is done to a tensor, each once, and which of it by variants."""
        every = [tuple(edits.get(owner, ())) for edits in self.variants]
        keys = [tuple(map(id, edits)) for edits in every]
        once = dict(zip(keys, every, strict=True))
        return list(once.values()), [list(once).index(key) for key in keys]

    def blocks(
        self, owner: str, kinds: Sequence[Sequence[Edit]]
    ) -> Iterator[tuple[int, list[Tensor]]]:
        """Yield the rows of a tensor for all that is done to it."""
        large = prod(self.store.shape(owner)) > LARGE
        for first, block in self.store.blocks(owner):
            plain = _wide(block) if self.wide else block
            found = [
                _edited(block, first, e).to(plain.dtype) if e else plain for e in kinds
            ]
            yield first, found
            del block, plain, found
            if large:
                _give_back()

    def linear(self, node: fx.Node) -> list[Any]:
        x, weight, bias = self.operands(node, 3)
        inputs, owner = self.values(x), self.names[weight.name]
        added = self.values(bias) if bias is not None else [None]
        parts: list[list[Tensor]] = [[] for _ in self.variants]
        kinds, which = self.kinds(owner)
        for first, found in self.blocks(owner, kinds):
            for i, rows in enumerate(found[kind] for kind in which):
                more = added[i % len(added)]
                more = more if more is None else more[first : first + len(rows)]
                parts[i].append(linear(inputs[i % len(inputs)], rows, more))
        return [_cat(part, -1) for part in parts]

    def embedding(self, node: fx.Node) -> list[Any]:
        table, index = self.operands(node, 2)
        owner, found = self.names[table.name], self.values(index)
        count = self.store.shape(owner)[0]
        for each in found:  # a file has other values before and behind
            if each.numel() and not 0 <= int(each.min()) <= int(each.max()) < count:
                raise InputError(
                    f"expected indices of the {count} rows of '{owner}' in the data, "
                    f"got {int(each.min())} to {int(each.max())}"
                )
        picked = [each.unique(return_inverse=True) for each in found]
        tables = [self.store.rows(owner, index) for index, _ in picked]
        results: list[Any] = []
        for i, edits in enumerate(self.variants):
            (index, back), rows = (each[i % len(found)] for each in (picked, tables))
            dtype = torch.float64 if self.wide else rows.dtype
            if mine := edits.get(owner):
                each = zip(rows, index.tolist(), strict=True)
                rows = torch.cat([_edited(row[None], at, mine) for row, at in each])
            results.append(rows.to(dtype)[back])
        return results

    def operands(self, node: fx.Node, count: int) -> list[Any]:
        """Return the first arguments of a node; None where one is not given."""
        return [*node.args, *[None] * count][:count]


def _give_back() -> None:
    """Return what is free to the system.

    What is kept of one operation lies in the gap that the last matrix left, so that
    the next one does not fit there, and the heap would grow by each.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def _edited(block: Tensor, first: int, edits: Sequence[Edit]) -> Tensor:
    block = _wide(block)
    for edit in edits:
        block = edit.on(block, first)
    return block


def _wide(tensor: Tensor) -> Tensor:
    if tensor.device.type == "mps":  # which has no float64
        tensor = tensor.cpu()
    return tensor.to(_double(tensor.dtype))


def _cat(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), axis)


def _double(dtype: torch.dtype) -> torch.dtype:
    wide = torch.complex128 if dtype.is_complex else dtype
    return torch.float64 if dtype.is_floating_point else wide


def _real(device: torch.device) -> torch.device:
    """Return where the values are, of a graph that was traced without any."""
    return torch.device("cpu") if device.type in {"meta", "mps"} else device
