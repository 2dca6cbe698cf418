"""LN(x) = RMSNorm(x) where the mean of x is 0."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import nn

from plumbob.errors import InputError
from plumbob.mending.exchange import called, exchange, sole_call
from plumbob.mending.moves import Offered, centred
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.survey.domain import name
from plumbob.survey.flow import Flow
from plumbob.survey.writers import writers
from plumbob.types import Safety

NAME = "layer-norm-to-rms-norm"


def layer_norm_to_rms_norm(plan: Plan) -> Iterator[Offered]:
    """Exchange a layer norm for an RMS norm where there is no mean to subtract.

    Why:
        One pass over the values less; and what turns or scales the residual
        stream as a whole commutes with an RMS norm only.

    Exact when:
        In inference: all that is read is written by maps, tables and biases whose
        common part nothing sees, so that it can be taken away: then the mean is 0 for
        every input. The norm has no bias (nn.RMSNorm has none) and is called once.

    Not when:
        The norm has a bias that fold-layer-norm-beta could not move. Something else
        reads what it reads, as the residual of a post-norm layer, returned hidden
        states or a tied unembedding. Constants that are no parameters (waves of
        positions) are added: their mean need not be 0. Further training would bring a
        mean back.

    Side effects:
        The module becomes nn.RMSNorm with the same gain and eps, and the parameters
        that write to it are centred as by centre-before-layer-norm.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, bias=False))
        >>> x = torch.randn(8, 3)
        >>> fixed, proof = plumbob.fix(model, x, select="layer-norm-to-rms-norm")
        >>> fixed[1]
        RMSNorm((4,), eps=1e-05, elementwise_affine=True)
        >>> bool(fixed[0](x).mean(-1).abs().max() < 1e-6)
        True
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Zhang and Sennrich (2019), Root mean square layer normalization. Ashkboos
        et al. (2024), SliceGPT, section 3.
    """
    graph = plan.graph
    if graph is None or graph.on_this_path:
        return
    flow = Flow(graph)
    known = writers(flow)
    common = {(p.parameter, p.axis): p for p in plan.offsets}
    for node in flow.order:
        if name(node) != "layer_norm" or node not in flow.read:
            continue
        written = known.get(node.all_input_nodes[0], {}).get(-1)
        last = len(flow.arguments[node]["normalized_shape"]) == 1
        if not last or written is None or not written <= common.keys():
            continue
        place = called(graph, node)
        try:
            norm = sole_call(plan.model, graph, place, {node})
            _exchangeable(norm)
            acts = [
                _act(centred(plan, common[key], rewrite=NAME))
                for key in sorted(written)
            ]
        except InputError as error:
            yield Refusal(rewrite=NAME, place=place, why=str(error))
            continue
        names = ", ".join(parameter for parameter, _ in sorted(written))
        yield Offer(
            rewrite=NAME,
            place=place,
            safety=Safety.EVAL_ONLY,
            steps=(
                f"all that {place} reads is written by {names}",
                "centred, they write values of mean 0 for every input",
            ),
            act=partial(_exchange, path=place, acts=acts),
            structural=True,
        )


def _exchangeable(norm: nn.Module) -> None:
    """Check that a module is a layer norm without a bias.

    Raises:
        InputError: it is not.
    """
    if type(norm) is not nn.LayerNorm:
        raise InputError(f"its module is {type(norm).__name__}, not nn.LayerNorm")
    if "bias" in dict(norm.named_parameters()):
        raise InputError("it has a bias, which nn.RMSNorm has not")


def _act(offered: Offered) -> Callable[[nn.Module], None]:
    """Return what centres a parameter.

    Raises:
        InputError: it cannot be written to.
    """
    if isinstance(offered, Refusal):
        raise InputError(offered.why)
    return offered.act


def _exchange(
    model: nn.Module, *, path: str, acts: Sequence[Callable[[nn.Module], None]]
) -> None:
    for act in acts:
        act(model)
    old = model.get_submodule(path)
    if not isinstance(old, nn.LayerNorm):
        return
    _exchangeable(old)
    shape, learns = list(old.normalized_shape), old.elementwise_affine
    new = nn.RMSNorm(shape, old.eps, learns, "meta")
    new.register_parameter("weight", old.weight)
    exchange(model, path, new)
