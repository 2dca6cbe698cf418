"""relu(z) = z where z >= 0: a ReLU that never rests is nothing."""

from collections.abc import Iterator
from functools import partial

from torch import fx, nn

from plumbob.errors import InputError
from plumbob.mending.exchange import called, sole_call, take_out
from plumbob.mending.moves import Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.survey.bounds import bounds
from plumbob.survey.hidden import ancestors
from plumbob.survey.ops import op
from plumbob.types import Safety

NAME = "absorb-linear-unit"


def absorb_linear_unit(plan: Plan) -> Iterator[Offered]:
    """Take away a ReLU before which no unit is ever below zero, by proof.

    Why:
        The layer is a linear one, and can then be merged with the next.

    Exact when:
        In inference: interval arithmetic proves z >= 0 for all units and every input.
        The ReLU is a module that is called once.

    Not when:
        Means less three standard deviations are above 0, or z was above 0 on all data:
        that proves nothing. One unit may rest. ReLU6, GELU, SiLU, ELU and Softplus are
        the identity nowhere. In training, which can move z below 0.

    Side effects:
        The module becomes nn.Identity: parameters that change later, by training or
        quantisation, find no ReLU any more.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> layers = nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2), nn.ReLU()
        >>> model, x = nn.Sequential(*layers), torch.randn(8, 4)
        >>> _ = nn.init.constant_(model[2].weight, -1.0)
        >>> _ = nn.init.constant_(model[2].bias, 3.0)  # z >= 3 - 3 = 0
        >>> fixed, proof = plumbob.fix(model, x, select="absorb-linear-unit")
        >>> fixed[3], proof.certificates[0].places, torch.equal(fixed(x), model(x))
        (Identity(), ('3',), True)
        >>> _ = nn.init.constant_(model[2].bias, 2.9)  # z may be -0.1
        >>> plumbob.fix(model, x, select="absorb-linear-unit")[0][3]
        ReLU()

    References:
        Serra, Kumar and Ramalingam (2020), Lossless compression of deep neural
        networks (arXiv 2001.00218).
    """
    graph = plan.graph
    if graph is None:
        return
    lows = {node: low for node, (low, _) in bounds(plan.model, graph).nodes.items()}
    for node in graph.module.graph.nodes:
        if op(node) == "relu" and lows.get(node.all_input_nodes[0], -1.0) >= 0:
            yield _offer(plan, node)


def _offer(plan: Plan, node: fx.Node) -> Offered:
    graph = plan.structure.graphs[False]
    path = called(graph, node)
    try:
        module = sole_call(plan.model, graph, path, [node])
        if type(module) is not nn.ReLU:
            raise InputError(f"{type(module).__name__} computes it, no nn.ReLU")
    except InputError as error:
        return Refusal(rewrite=NAME, place=path or node.name, why=str(error))
    return Offer(
        rewrite=NAME,
        place=path,
        safety=Safety.EVAL_ONLY,
        steps=(
            f"what {path} reads is at least 0 for every input, by interval arithmetic "
            "along the graph",
        ),
        act=partial(take_out, path=path),
        structural=True,
        kept=ancestors(node, graph),
    )
