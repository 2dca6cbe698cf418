"""V (W x + b) + c = (V W) x + (V b + c): two maps in a row are one."""

from collections.abc import Iterator
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
from plumbob.mending.units import (
    CONVOLUTIONS,
    TURNED,
    axes,
    layer,
    owner,
    pads_zeros,
    sizes,
)
from plumbob.survey.graph import Graph
from plumbob.survey.hidden import Hidden, hidden
from plumbob.survey.ops import DROPOUT, SAME, SHAPE, op
from plumbob.types import Safety

NAME, CODE = "merge-stacked-linear", "PB310"


def merge_stacked_linear(plan: Plan) -> Iterator[Offered]:
    """Make two maps with nothing between them one; nn.Identity stays for the other.

    Why:
        Two products, two weights and two biases do the work of one.

    Exact when:
        In inference: the second alone reads the first, and one of them looks at a
        single position: a linear map or a convolution of one tap without stride or
        padding. Only where the weights do not grow and the middle is as wide as one of
        the ends, so that no rank is gained.

    Not when:
        The middle is narrower than both ends: the low rank says something (LoRA). The
        first looks at a single position and has a bias, and the second pads with
        zeros, where it would be missing. Both convolutions have several taps: their
        product has more. An activation stands between. A layer is called twice, or its
        weight read from outside. In training, where two factors learn otherwise than
        their product.

    Side effects:
        One module becomes nn.Identity, the other changes its shape.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2), nn.ReLU())
        >>> x = torch.randn(8, 4)
        >>> fixed, proof = plumbob.fix(model, x, select="merge-stacked-linear")
        >>> fixed[0], fixed[1], proof.before, proof.after
        (Linear(in_features=4, out_features=2, bias=True), Identity(), 44, 10)
        >>> product = model[1].weight @ model[0].weight
        >>> torch.allclose(fixed[0].weight, product, atol=1e-6)
        True
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Arora, Cohen and Hazan (2018), On the optimization of deep networks: implicit
        acceleration by overparameterization.
    """
    graph = plan.graph
    if graph is None:
        return
    taken = set[str]()  # a map in the middle of three is merged with one of them
    for each in hidden(graph):
        moved = all(op(n) in SAME | SHAPE | DROPOUT for n in each.between)
        if moved and not each.obstacles and len(each.readers) == 1:
            pair = {part.weight.name for part in (each.use, each.readers[0][0])}
            offered = None if pair & taken else _offered(plan, each)
            if offered is not None:
                taken |= pair
                yield offered


def _offered(plan: Plan, each: Hidden) -> Offered | None:
    model, graph = plan.model, plan.structure.graphs[False]
    (reader, width), use = each.readers[0], each.use
    if width > 1 or use.out < min(use.fan_in, reader.out):
        return None
    first, second = (owner(part.weight.name) for part in (use, reader))
    try:
        layer(model, graph, each)
        one: Any = model.get_submodule(first)
        two: Any = model.get_submodule(second)
        into = first if _single(two) else second if _single(one) else ""
        if not into or one.weight.dtype != two.weight.dtype:
            return None
        size = one.weight.numel() if into == first else two.weight.numel()
        made = size // use.out * (reader.out if into == first else use.fan_in)
        if made > one.weight.numel() + two.weight.numel():
            return None
        if into == second and pads_zeros(two) and one.bias is not None:
            return None
        other = reader if into == first else use
        path = called(graph, other.node)
        sole_call(model, graph, path, _own(graph, path))
    except InputError as error:
        return Refusal(rewrite=NAME, code=CODE, place=first, why=str(error))
    return Offer(
        rewrite=NAME,
        code=CODE,
        place=first,
        safety=Safety.EVAL_ONLY,
        steps=(
            f"nothing but {second} reads {first}, and nothing bends between the two",
            f"their product stands in {into}",
        ),
        act=partial(_merge, first=first, second=second, into=into),
        structural=True,
    )


def _own(graph: Graph, path: str) -> list[fx.Node]:
    """Return the nodes of a module's call: its map, and views around it."""
    ways = SAME | SHAPE
    nodes = [n for n in graph.module.graph.nodes if called(graph, n) == path]
    maps = [n for n in nodes if op(n) not in ways]
    return [n for n in nodes if op(n) in ways] + maps[:1]


def _single(module: nn.Module) -> bool:
    """Say whether a map looks at one position at a time, and at every one."""
    if not isinstance(module, CONVOLUTIONS):
        return not isinstance(module, TURNED)
    pads: Any = module._reversed_padding_repeated_twice  # pyright: ignore[reportPrivateUsage]
    return {*module.kernel_size, *module.stride} == {1} and not any(pads)


def _matrix(module: Any) -> Float[Tensor, "out fan_in"]:
    weight = module.weight.detach().cpu().double()
    return weight.movedim(axes(module)[0], 0).flatten(1)


def _weights(one: Any, two: Any, *, first: bool) -> tuple[Tensor, Tensor]:
    """Return the weight of the product, laid out as one of the two, and what b gives.

    The second value is what the first map's bias is multiplied by.
    """
    if first:
        by = _matrix(two)
        into = one.weight.detach().cpu().double().movedim(axes(one)[0], 0)
        made = torch.tensordot(by, into, 1)
        return made.movedim(0, axes(one)[0]).contiguous(), by
    out, inputs = axes(two)
    into = two.weight.detach().cpu().double().movedim((out, inputs), (0, -1))
    made = (into @ _matrix(one)).movedim((0, -1), (out, inputs)).contiguous()
    return made, into.flatten(1, -2).sum(1) if into.dim() > 2 else into


@torch.no_grad()
def _merge(model: nn.Module, *, first: str, second: str, into: str) -> None:
    one: Any = model.get_submodule(first)
    two: Any = model.get_submodule(second)
    if nn.Identity in {type(one), type(two)}:
        return
    made, by = _weights(one, two, first=into == first)
    bias = None if two.bias is None else two.bias.detach().cpu().double()
    if one.bias is not None:
        bias = by @ one.bias.detach().cpu().double() + (0 if bias is None else bias)
    kept, gone = (one, second) if into == first else (two, first)
    place = 0 if into == first else 1
    setattr(kept, sizes(kept)[place], made.shape[axes(kept)[place]])
    like = kept.weight
    kept.weight = nn.Parameter(made.to(like), requires_grad=like.requires_grad)
    if bias is not None:
        kept.bias = nn.Parameter(bias.to(like), requires_grad=like.requires_grad)
    take_out(model, gone)
