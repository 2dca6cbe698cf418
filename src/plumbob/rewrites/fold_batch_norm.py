"""s (W x + b) + t = (s W) x + (s b + t): a frozen batch norm is part of a map."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from plumbob.errors import InputError
from plumbob.mending.exchange import called, sole_call, take_out
from plumbob.mending.moves import Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.mending.readers import Reader, Readers, result
from plumbob.mending.scaling import Move, into_columns, into_rows
from plumbob.survey.affine import Affine
from plumbob.survey.lanes import Lane
from plumbob.survey.ops import NORMS, op, shape
from plumbob.survey.writable import plain
from plumbob.types import Safety

FORWARDS = {nn.BatchNorm1d.forward, nn.SyncBatchNorm.forward}


def fold_batch_norm(plan: Plan) -> Iterator[Offered]:
    """Make a batch norm part of the map before it, or of all maps after it.

    Why:
        In inference its statistics are fixed, so it is a scale and a shift per
        unit, which a map has already; the pass over the activations is saved.

    Exact when:
        In inference: it alone reads the map, as it comes, and the map is called once;
        or all that reads the norm are maps with parameters of their own that pad with
        no zeros. A map without a bias gets one.

    Not when:
        The map is called twice or its weight is shared: the other use would be scaled
        too. Something else reads the map (a skip past the norm). The norm can only go
        into the maps after it and one of them pads with zeros, which would have become
        t. The norm keeps no statistics, or does more than a batch norm does.

    Side effects:
        The norm becomes nn.Identity; trained on from there, nothing normalises by the
        batch any more.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> layers = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        >>> model, x = nn.Sequential(*layers), torch.randn(8, 3, 6, 6)
        >>> _ = model(x)  # in training, so that the norm has statistics
        >>> fixed, proof = plumbob.fix(model.eval(), x, select="fold-batch-norm")
        >>> fixed[1], proof.certificates[0].added, proof.before, proof.after
        (Identity(), ('0.bias',), 116, 112)
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Jacob et al. (2018), Quantization and training of neural networks for
        efficient integer-arithmetic-only inference, section 3.2.
    """
    graph = plan.graph
    if graph is None:
        return
    readers = Readers(plan.model, graph)
    for node in graph.module.graph.nodes:
        if NORMS.get(op(node)) == "batch-norm" and node in readers.flow.read:
            offered = _offered(plan.model, readers, node)
            if offered is not None:
                yield offered


def _offered(model: nn.Module, readers: Readers, node: fx.Node) -> Offered | None:
    """Return what can be done about one norm, None where no map is beside it."""
    lane = Lane(1 - len(shape(node)))
    use = readers.before(node.all_input_nodes[0], lane)
    try:
        after = list(readers.after(result(node), lane))
    except InputError:
        after = []
    if use is None and not after:
        return None
    path = called(readers.graph, node)
    try:
        _frozen(readers, node, sole_call(model, readers.graph, path, _call(node)))
        move, uses = _move(readers, node, use, after)
    except InputError as error:
        return Refusal(
            rewrite="fold-batch-norm",
            code="PB312",
            place=path or node.name,
            why=str(error),
        )
    weights = " and ".join(u.weight.name for u in uses)
    return Offer(
        rewrite="fold-batch-norm",
        code="PB312",
        place=path,
        safety=Safety.EVAL_ONLY,
        steps=(
            f"in inference {path} is a scale and a shift of each unit",
            f"nothing bends between it and the map of {weights}, which can carry both",
        ),
        act=partial(_fold, path=path, move=move),
        structural=True,
        effects=(f"in training {path} would use the statistics of the batch",),
    )


def _call(node: fx.Node) -> set[fx.Node]:
    return {node, *(user for user in node.users if op(user) == "getitem")}


def _frozen(readers: Readers, node: fx.Node, norm: nn.Module) -> None:
    """Check that a norm uses statistics that it keeps.

    Raises:
        InputError: it does not, or is of another class that may do more.
    """
    mean = readers.flow.arguments[node].get("running_mean")
    if mean is None or type(norm).forward not in FORWARDS:
        raise InputError(f"it is no batch norm with statistics of its own: {norm}")


def _move(
    readers: Readers, node: fx.Node, use: Affine | None, after: Sequence[Reader]
) -> tuple[Move, list[Affine]]:
    """Return what moves scale and shift, and the maps that take them.

    Raises:
        InputError: they cannot.
    """
    if use is not None:
        try:
            readers.sole(node, use.node)
            readers.own(use)
        except InputError:
            if not after:
                raise
        else:
            return partial(into_rows, use=use), [use]
    for reader in after:
        if reader.padded:
            raise InputError(
                f"the map of {reader.use.weight.name} reads zeros (or fewer values) at "
                "its border, which the norm has not shifted"
            )
        readers.own(reader.use)
        readers.unhooked(reader.reads, result(node))
    return partial(into_columns, readers=after), [reader.use for reader in after]


def _fold(model: nn.Module, *, path: str, move: Move) -> None:
    norm = model.get_submodule(path)
    if not isinstance(norm, nn.Identity):
        move(model, *_affine(model, path, norm))
        take_out(model, path)


@torch.no_grad()
def _affine(
    model: nn.Module, path: str, norm: Any
) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
    """Return scale and shift of a norm in float64."""
    mean, var = norm.running_mean.cpu().double(), norm.running_var.cpu().double()
    scale, shift = (var + norm.eps).rsqrt(), torch.zeros_like(mean)
    if norm.weight is not None:
        scale = scale * plain(model, f"{path}.weight").cpu().double()
    if norm.bias is not None:
        shift = plain(model, f"{path}.bias").cpu().double()
    return scale, shift - scale * mean
