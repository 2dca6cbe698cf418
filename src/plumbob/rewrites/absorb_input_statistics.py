"""W (x - m) / s + b = (W / s) x + (b - W m / s): the first maps standardise."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from plumbob.errors import InputError, one_line
from plumbob.mending.exchange import called, sole_call, take_out
from plumbob.mending.moves import Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.mending.readers import Reader, Readers
from plumbob.mending.scaling import into_columns
from plumbob.survey.graph import Graph
from plumbob.survey.lanes import Lane
from plumbob.survey.ops import SAME, SHAPE, op, shape, value, words
from plumbob.types import Safety

ARITHMETIC = words("add sub rsub mul div")
FAR = 2.0**20  # from 0: the rounding of m vanishes in the slope between two such points


def absorb_input_statistics(plan: Plan) -> Iterator[Offered]:
    """Make the standardisation of the input part of the maps that read it.

    Why:
        A pass over the input is saved, and the weights say what they do to the
        numbers that the user has.

    Exact when:
        In inference: a module of its own does it, with a mean and a scale per channel
        or feature that do not depend on the input; and only maps that pad with no
        zeros read the result.

    Not when:
        A convolution pads with zeros: such a zero is the mean, which was another
        number before (`design.fold_input_statistics_` pads with the mean). The model's
        own forward does it, or the module changes the shape or the dtype too. The mean
        is so far from 0 that x and m nearly cancel: float32 does not hold W x and
        b - W m / s beside each other, and the certificate refuses it. A batch norm at
        the input is fold-batch-norm's.

    Side effects:
        The module becomes nn.Identity. Trained on from there, the first maps read data
        that are not centred, which slows learning down.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> class Standardise(nn.Module):
        ...     def forward(self, x):
        ...         return (x - 100) / 20
        >>> model = nn.Sequential(Standardise(), nn.Linear(3, 4))
        >>> x = 100 + 20 * torch.randn(8, 3)
        >>> fixed, proof = plumbob.fix(model, x, select="absorb-input-statistics")
        >>> fixed[0], torch.allclose(fixed[1].weight, model[1].weight / 20)
        (Identity(), True)
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        LeCun, Bottou, Orr and Müller (1998), Efficient BackProp, section 4.3.
    """
    graph = plan.graph
    if graph is None:
        return
    readers = Readers(plan.model, graph)
    for path, nodes in _calls(graph).items():
        live = [node for node in nodes if node in readers.flow.depends]
        moves = any(op(node) in ARITHMETIC for node in live)
        if moves and all(_standardises(readers, node) for node in live):
            yield _offered(plan.model, readers, path, nodes, live)


@dataclass(frozen=True, slots=True)
class _Absorb:
    """Moves what a module does to units along `axis` into what reads them."""

    path: str
    sizes: tuple[int, ...]
    axis: int
    readers: Sequence[Reader]

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        """Do it to a model.

        Raises:
            InputError: a parameter is not its own, or the module fails.
        """
        module = model.get_submodule(self.path)
        if not isinstance(module, nn.Identity):
            units = [_along(t, self.axis) for t in _statistics(module, self.sizes)]
            into_columns(model, *units, readers=self.readers)
            take_out(model, self.path)


def _calls(graph: Graph) -> dict[str, list[fx.Node]]:
    """Return the nodes of each module's calls, without those of modules in it."""
    found: dict[str, list[fx.Node]] = {}
    for node in graph.module.graph.nodes:
        if path := called(graph, node):
            found.setdefault(path, []).append(node)
    return found


def _standardises(readers: Readers, node: fx.Node) -> bool:
    """Return whether a node scales or shifts the model's input by what is fixed."""
    live = [n for n in node.all_input_nodes if n in readers.flow.depends]
    if op(node) not in ARITHMETIC | SAME or len(live) != 1:
        return False
    if op(node) == "div" and live[0] is not node.args[0]:
        return False
    source = live[0]
    while op(source) in SAME | SHAPE | ARITHMETIC:
        source = next(n for n in source.all_input_nodes if n in readers.flow.depends)
    return source.name in readers.graph.inputs


def _offered(
    model: nn.Module,
    readers: Readers,
    path: str,
    nodes: Sequence[fx.Node],
    live: Sequence[fx.Node],
) -> Offered:
    """Return what can be done about a module that standardises the input."""
    try:
        module = sole_call(model, readers.graph, path, nodes)
        axis, after = _after(module, readers, live)
    except InputError as error:
        return Refusal(rewrite="absorb-input-statistics", place=path, why=str(error))
    into = " and ".join(reader.use.weight.name for reader in after)
    return Offer(
        rewrite="absorb-input-statistics",
        place=path,
        safety=Safety.EVAL_ONLY,
        steps=(
            f"{path} is a fixed scale and shift of each feature of the input",
            f"all that reads its result is the map of {into}",
        ),
        act=_Absorb(path, shape(live[-1]), axis, after),
        structural=True,
        effects=(f"{into} reads the input as it comes",),
    )


def _after(
    module: nn.Module, readers: Readers, live: Sequence[fx.Node]
) -> tuple[int, list[Reader]]:
    """Return the axis of the units, and the maps that read them.

    Raises:
        InputError: something else reads them, or they differ in one unit.
    """
    last = live[-1]
    first = next(n for n in live[0].all_input_nodes if n in readers.flow.depends)
    if shape(first) != shape(last) or value(first).dtype != value(last).dtype:
        raise InputError("it changes the shape or the dtype of the input too")
    statistics = _statistics(module, shape(last))
    axes = [a for a in range(-len(shape(last)), 0) if _vary(statistics, a)]
    why = InputError("its mean or scale differs within a channel or feature")
    for axis in axes:
        try:
            after = list(readers.after(last, Lane(axis)))
        except InputError as error:
            why = error
            continue
        for reader in after:
            readers.own(reader.use)
            readers.unhooked(reader.reads, last)
        if any(reader.padded for reader in after):
            raise InputError(
                "a convolution pads the standardised input with zeros, which stand "
                "for the mean; design.fold_input_statistics_ pads with the mean"
            )
        return axis, after
    raise why


@torch.no_grad()
def _statistics(module: nn.Module, sizes: tuple[int, ...]) -> list[Tensor]:
    """Return scale and shift of every number, in float64.

    Raises:
        InputError: the module cannot be run in float64 on a processor.
    """
    own = copy.deepcopy(module).cpu().double()
    try:
        low, none, high = (
            own(torch.full(sizes, x, dtype=torch.float64)) for x in (-FAR, 0.0, FAR)
        )
    except Exception as error:  # whatever the user's code raises
        raise InputError(f"it cannot be run by itself: {one_line(error)}") from error
    return [(high - low) / (2 * FAR), none]


def _vary(statistics: Sequence[Tensor], axis: int) -> bool:
    """Return whether statistics differ along no other axis."""
    rows = [t.movedim(axis, -1).flatten(0, -2) for t in statistics]
    return all(torch.equal(t, t[:1].expand_as(t)) for t in rows)


def _along(t: Tensor, axis: int) -> Float[Tensor, " units"]:
    """Return the values along an axis, of the first place of all others."""
    return t.movedim(axis, -1).flatten(0, -2)[0]
