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

NAME, CODE = "absorb-linear-unit", "PB202"


def absorb_linear_unit(plan: Plan) -> Iterator[Offered]:
    """Take away a ReLU before which no unit is ever below zero, by proof.

    Why:
        The layer is a linear one, and can then be merged with the next.

    Exact when:
        Interval arithmetic proves z >= 0 for all units and every input. Means less
        three standard deviations, or what was seen on data, prove nothing. The ReLU
        is a module that is called once. In inference: training can move z below 0.

    References:
        Serra, Kumar and Ramalingam (2020), Lossless compression of deep neural
        networks, section 4.
    """
    graph = plan.structure.graphs.get(False)
    if plan.goal != "inference" or graph is None:
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
        return Refusal(rewrite=NAME, code=CODE, place=path or node.name, why=str(error))
    return Offer(
        rewrite=NAME,
        code=CODE,
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
