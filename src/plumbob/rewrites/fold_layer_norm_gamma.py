"""W (g n) = (W g) n: a layer norm's gain goes into the columns of its readers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.mending.moves import ONE_PATH, Offered
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.mending.readers import Reader, Readers, result
from plumbob.mending.scaling import into_columns
from plumbob.survey.affine import Affine, affine
from plumbob.survey.lanes import Lane
from plumbob.survey.norms import written_out
from plumbob.survey.ops import argument, op
from plumbob.survey.writable import writable
from plumbob.types import Safety

KINDS = {"layer-norm", "rms-norm"}


def fold_layer_norm_gamma(plan: Plan) -> Iterator[Offered]:
    """Move the gain of a layer norm or RMS norm into the weights that read it.

    Why:
        Each reader holds its whole weight, so that directions can be compared
        with one another across layers; the norm is left with nothing to learn.

    Exact when:
        In inference: each reader is a map with a weight of its own. The norm's bias,
        where it has one that is not 0, goes along into biases that are there.

    Not when:
        The residual reads the values too, as in a post-norm layer (BERT), or they are
        returned. A reader's weight is shared, as an output layer that is the embedding
        (tied unembedding), or the layer is called twice. The norm's bias is not 0 and a
        reader has no bias, or pads with zeros. Products are so small that float16
        loses them: the certificate refuses it.

    Side effects:
        Columns have other norms, so that weight decay, and an optimiser's steps
        relative to a weight's size, would be others.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.RMSNorm(4), nn.Linear(4, 2, bias=False))
        >>> gain = model[0].weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> x = torch.randn(8, 4)
        >>> fixed, proof = plumbob.fix(model, x, select="fold-layer-norm-gamma")
        >>> proof.removed, torch.equal(fixed[1].weight, model[1].weight * gain)
        (('0.weight',), True)
        >>> fixed[0].elementwise_affine, torch.allclose(fixed(x), model(x), atol=1e-5)
        (False, True)

    References:
        Elhage et al. (2021), A mathematical framework for transformer circuits,
        model simplifications.
    """
    graph = plan.graph
    if graph is None:
        return
    readers = Readers(plan.model, graph)
    gains = written_out(graph.module.graph, readers.known).gains
    for node in graph.module.graph.nodes:
        norms = [gains[node]] if node in gains else affine(node, readers.known)
        for norm in norms:
            if norm.norm in KINDS and norm.weight.cut is None and norm.axis_out == -1:
                yield from _offers(plan.model, readers, norm)


@dataclass(frozen=True, slots=True)
class _Fold:
    """Moves gain w + plus and bias of a norm into the maps that read it."""

    gain: str
    plus: int
    bias: str | None
    readers: Sequence[Reader]

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        """Do it to a model.

        Raises:
            InputError: a parameter is not its own.
        """
        gain = writable(model, self.gain, frozen=True)
        scale = gain.cpu().double() + self.plus
        bias = writable(model, self.bias, frozen=True) if self.bias else None
        shift = torch.zeros_like(scale) if bias is None else bias.cpu().double()
        if bool((scale != 1).any() or shift.any()):
            into_columns(model, scale, shift, readers=self.readers)
            gain.fill_(1 - self.plus)
            if bias is not None:
                bias.zero_()


def _offers(model: nn.Module, readers: Readers, norm: Affine) -> Iterator[Offered]:
    """Yield what can be done about one norm; nothing where not only maps read it."""
    try:
        after = list(readers.after(result(norm.node), Lane(-1)))
    except InputError:
        return
    place = norm.weight.name
    bias = norm.bias.name if norm.bias else None
    try:
        plus, kept = _movable(model, readers, norm, after)
    except InputError as error:
        yield Refusal(rewrite="fold-layer-norm-gamma", place=place, why=str(error))
        return
    into = " and ".join(reader.use.weight.name for reader in after)
    yield Offer(
        rewrite="fold-layer-norm-gamma",
        place=place,
        safety=Safety.EVAL_ONLY,
        steps=(f"all that reads what {place} scales is the map of {into}",),
        act=_Fold(place, plus, bias, after),
        cleared=(bias, place) if bias else (place,),
        structural=True,
        kept=kept,
        effects=(f"the columns of {into} are scaled by {place}",),
    )


def _movable(
    model: nn.Module, readers: Readers, norm: Affine, after: Sequence[Reader]
) -> tuple[int, frozenset[str]]:
    """Return what is added to the gain, and what must stay as it is.

    Raises:
        InputError: a parameter is not its own, or the norm's bias cannot go along.
    """
    if readers.graph.on_this_path:
        raise InputError(ONE_PATH)
    readers.once(n for n in norm.node.all_input_nodes if n is not norm.reads)
    for reader in after:
        readers.own(reader.use, shifted=False)
        readers.unhooked(reader.reads, result(norm.node))
    gain = next(n for n in norm.node.all_input_nodes if n is not norm.reads)
    plus = argument(gain, 1, "other") if op(gain) == "add" else 0
    if plus not in (0, 1):
        raise InputError(f"{norm.weight.name} is added to {plus}")
    plus = int(plus)
    writable(model, norm.weight.name, frozen=True)
    if norm.bias is None:
        return plus, frozenset()
    bias = writable(model, norm.bias.name, frozen=True)
    if all(reader.use.bias and not reader.padded for reader in after):
        return plus, frozenset()
    if bool(bias.any()):
        raise InputError(
            f"{norm.bias.name} is not 0 and cannot go along: a reader has no bias, or "
            "pads with zeros"
        )
    return plus, frozenset({norm.bias.name})
