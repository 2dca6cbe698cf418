"""W x > h is W x - h > 0: a threshold is a bias with the other sign."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.mending.differences import tensors_of
from plumbob.mending.moves import Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.mending.units import SIZES, owner, sizes, sole_use, whole
from plumbob.survey.affine import Affine, affine
from plumbob.survey.graph import Graph
from plumbob.survey.ops import op, shape
from plumbob.survey.views import views
from plumbob.survey.writable import writable
from plumbob.types import Safety

NAME = "threshold-to-bias"
COMPARED = {"gt", "ge", "lt", "le", "sub", "rsub"}


def threshold_to_bias(plan: Plan) -> Iterator[Offered]:
    """Make a threshold that a map is compared with, or that is taken off, its bias.

    Why:
        One number per unit under two names: what is said of biases was not said of
        it, and a map with both has it twice.

    Exact when:
        In inference: the threshold is a parameter or a buffer with one number, or one
        per unit, that is read at this place only, and nothing else reads the map.

    Not when:
        The threshold or the map is read elsewhere too, or differs from sample to
        sample. In training: a comparison has no gradient, and a bias may be decayed.

    Side effects:
        The map gets a bias where it had none; the threshold is 0 and stays, frozen, as
        the model's forward names it.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> class Gates(nn.Module):  # McCulloch and Pitts: and, or
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.map = nn.Linear(2, 2, bias=False)
        ...         self.map.weight.data = torch.ones(2, 2)
        ...         self.threshold = nn.Parameter(torch.tensor([2.0, 1.0]))
        ...
        ...     def forward(self, x):
        ...         return (self.map(x) >= self.threshold).to(x)
        >>> x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
        >>> fixed, proof = plumbob.fix(Gates(), x, select="threshold-to-bias")
        >>> fixed.map.bias.tolist(), fixed.threshold.tolist(), fixed(x).T.tolist()
        ([-2.0, -1.0], [0.0, 0.0], [[0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0]])

    References:
        McCulloch and Pitts (1943), A logical calculus of the ideas immanent in
        nervous activity. Rosenblatt (1958), The perceptron: a probabilistic model for
        information storage and organization in the brain.
    """
    graph = plan.graph
    if graph is None or graph.on_this_path:
        return
    known, model = views(graph), plan.model
    values = tensors_of(model)
    for node in graph.module.graph.nodes:
        uses = [] if node in known else list(affine(node, known))
        if len(uses) == 1 and uses[0].kind in {"linear", "conv", "conv-transpose"}:
            threshold = _threshold(graph, uses[0])
            if threshold in values and bool(values[threshold].any()):
                yield _offer(plan, uses[0], threshold)


def _threshold(graph: Graph, use: Affine) -> str:
    """Return the parameter or buffer that a map's result meets, "" if none does."""
    if len(use.node.users) != 1:
        return ""
    (user,) = use.node.users
    others = [n for n in user.all_input_nodes if n is not use.node]
    if op(user) not in COMPARED or user.kwargs or len(others) != 1:
        return ""
    (other,) = others
    name = {**graph.parameters, **graph.buffers}.get(other.name, "")
    axes = (1,) * (len(shape(use.node)) - len(shape(other))) + shape(other)
    alone = all(n == 1 or i == len(axes) + use.axis_out for i, n in enumerate(axes))
    return name if alone and len(other.users) == 1 else ""


def _offer(plan: Plan, use: Affine, threshold: str) -> Offered:
    model, path = plan.model, owner(use.weight.name)
    parameters = dict(model.named_parameters())
    try:
        whole(model, path, tuple(SIZES))
        sole_use(use, views(plan.structure.graphs[False]))
        if threshold in parameters:
            writable(model, threshold, frozen=True)
    except InputError as error:
        return Refusal(rewrite=NAME, place=threshold, why=str(error))
    return Offer(
        rewrite=NAME,
        place=threshold,
        safety=Safety.EVAL_ONLY,
        steps=(f"{path} is read beside {threshold} only: their difference counts",),
        act=partial(_move, path=path, threshold=threshold),
        cleared=(threshold,) if threshold in parameters else (),
        effects=(f"{path}.bias takes over what {threshold} gives up",),
    )


@torch.no_grad()
def _move(model: nn.Module, *, path: str, threshold: str) -> None:
    module: Any = model.get_submodule(path)
    home, _, last = threshold.rpartition(".")
    own = getattr(model.get_submodule(home), last)
    if not own.any():
        return
    units = getattr(module, sizes(module)[0])
    amount = own.detach().cpu().double().flatten().expand(units)
    if module.bias is None:
        like = module.weight
        bias = nn.Parameter(-amount.to(like), requires_grad=like.requires_grad)
        module.bias = bias
    else:
        module.bias.copy_(module.bias.cpu().double() - amount)
    own.zero_()
