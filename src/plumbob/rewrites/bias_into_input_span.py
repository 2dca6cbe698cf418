"""W x + b = (W + b 1') x where 1'x = 1: what sums to one is a bias."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.mending.moves import Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.mending.units import axes, owner, sole_use, whole
from plumbob.survey.affine import Affine, affine
from plumbob.survey.flow import Flow
from plumbob.survey.ops import shape
from plumbob.survey.views import views
from plumbob.types import Safety

NAME = "bias-into-input-span"


def bias_into_input_span(plan: Plan) -> Iterator[Offered]:
    """Move the bias of a map that reads a softmax into its weights.

    Why:
        The columns hold a second bias, and the two step together.

    Exact when:
        In inference: the graph itself makes what the map reads sum to one: a softmax
        over its inputs, with nothing but changes of layout in between.

    Not when:
        The inputs of a batch add up to a constant (shares, one-hot codes of the user):
        that is seen, not proved; the rule reports it, and nothing is done. A sigmoid
        does not sum to one, nor does a softmax over another axis, or one with dropout
        behind it in training. A layer that is called elsewhere too keeps its bias.

    Side effects:
        The weights move by b, so weight decay, pruning by size and the norm of the
        columns mean something else.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1), nn.Linear(4, 2))
        >>> x = torch.randn(8, 3)
        >>> fixed, proof = plumbob.fix(model, x, select="bias-into-input-span")
        >>> proof.removed, proof.before, proof.after
        (('2.bias',), 26, 24)
        >>> moved = model[2].weight + model[2].bias[:, None]
        >>> torch.allclose(fixed[2].weight, moved), torch.allclose(fixed(x), model(x))
        (True, True)

    References:
        Suits (1957), Use of dummy variables in regression equations.
    """
    graph = plan.graph
    if graph is None or graph.on_this_path:
        return
    known, sums = views(graph), Flow(graph).sums
    for node in graph.module.graph.nodes:
        for use in affine(node, known):
            if use.kind != "linear" or use.bias is None or use.reads is None:
                continue
            last = len(shape(use.reads)) - 1
            if sums.get(use.reads) == last and use.axis_in == -1:
                yield _offer(plan, use, use.bias.name)


def _offer(plan: Plan, use: Affine, bias: str) -> Offered:
    path = owner(use.weight.name)
    try:
        whole(plan.model, path, {nn.Linear})
        sole_use(use, views(plan.structure.graphs[False]))
        if owner(bias) != path:
            raise InputError(f"{bias} is another module's")
    except InputError as error:
        return Refusal(rewrite=NAME, place=bias, why=str(error))
    return Offer(
        rewrite=NAME,
        place=bias,
        safety=Safety.EVAL_ONLY,
        steps=(f"what {path} reads sums to one, so every column can carry {bias}",),
        act=partial(_move, path=path),
        cleared=(bias,),
        effects=(f"{path}.weight takes over what {bias} gives up",),
    )


@torch.no_grad()
def _move(model: nn.Module, *, path: str) -> None:
    module: Any = model.get_submodule(path)
    if module.bias is None or not module.bias.any():
        return
    weight, bias = (t.detach().cpu().double() for t in (module.weight, module.bias))
    module.weight.copy_(weight + bias.unsqueeze(1 - axes(module)[0]))
    module.bias.zero_()
