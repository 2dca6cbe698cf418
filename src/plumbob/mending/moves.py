"""The three things that can be done along a direction that no output sees."""

from functools import partial

import torch
from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.mending.hooks import hooked
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.survey.carried import amounts
from plumbob.survey.flow import Walk
from plumbob.survey.graph import Graph
from plumbob.survey.replay import drawn
from plumbob.survey.settled import centred as is_centred
from plumbob.survey.writable import writable
from plumbob.types import Proof, Safety

Offered = Offer | Refusal
ONE_PATH = "the model does not export, so this is known of one recorded run only"


def cleared(plan: Plan, proof: Proof, *, rewrite: str, code: str) -> Offered:
    """Offer to set rows to 0 that nothing sees; a running mean gives them up."""
    act = partial(_clear, parameter=proof.parameter, rows=proof.rows, norm=proof.norm)
    effects = (f"{proof.norm}.running_mean moves by the bias",) if proof.norm else ()
    return _offer(plan, proof, rewrite, code, act, effects=effects)


def centred(plan: Plan, proof: Proof, *, rewrite: str, code: str) -> Offered:
    """Offer to take the common part of rows away, of all or of each group."""
    groups = proof.groups if proof.direction == "group" else 1
    act = partial(
        _centre,
        parameter=proof.parameter,
        rows=proof.rows,
        groups=groups,
        axis=proof.axis,
    )
    return _offer(plan, proof, rewrite, code, act, cleared=())


def folded(plan: Plan, proof: Proof, *, rewrite: str, code: str) -> Offered:
    """Offer to move rows into the parameters that can carry them."""
    graph = plan.structure.graphs[False]
    walk = plan.structure.walks[proof]["inference"]
    act = partial(
        _fold, graph=graph, walk=walk, parameter=proof.parameter, rows=proof.rows
    )
    into = ", ".join(dict.fromkeys(proof.carriers))
    effects = (f"{into} takes over what {proof.parameter} gives up",)
    return _offer(plan, proof, rewrite, code, act, effects=effects)


def _offer(
    plan: Plan,
    proof: Proof,
    rewrite: str,
    code: str,
    act: "partial[None]",
    *,
    cleared: tuple[str, ...] | None = None,
    effects: tuple[str, ...] = (),
) -> Offered:
    names = (proof.parameter, *proof.carriers)
    why = ONE_PATH if proof.on_this_path else None
    if why is None:
        try:
            for name in names:
                if not name.endswith(".running_mean"):
                    writable(plan.model, name, frozen=plan.goal == "inference")
            why = hooked(plan.model, names, plan.walks(proof).values())
        except InputError as error:
            why = str(error)
    place = proof.parameter
    kept = proof.inference == "null" or proof.norm is not None
    exact = kept and proof.training == "null"
    if why is not None:
        return Refusal(rewrite=rewrite, code=code, place=place, why=why)
    return Offer(
        rewrite=rewrite,
        code=code,
        place=place,
        safety=Safety.EXACT if exact else Safety.EVAL_ONLY,
        steps=proof.steps,
        act=act,
        cleared=(place,) if cleared is None else cleared,
        effects=effects,
    )


@torch.no_grad()
def _clear(
    model: nn.Module, *, parameter: str, rows: tuple[int, int], norm: str | None
) -> None:
    bias = writable(model, parameter, frozen=True)[slice(*rows)]
    if norm is not None:
        mean = model.get_buffer(f"{norm}.running_mean")
        mean.copy_(mean.cpu().double() - bias.cpu().double())  # mps has no float64
    bias.zero_()


@torch.no_grad()
def _centre(
    model: nn.Module, *, parameter: str, rows: tuple[int, int], groups: int, axis: int
) -> None:
    lo, hi = rows
    own = writable(model, parameter, frozen=True).narrow(axis, lo, hi - lo)
    if not is_centred(own, groups, axis):  # once is enough
        parts = own.cpu().double().unflatten(axis, (groups, -1))
        mean = parts.mean(axis + 1, keepdim=True)
        own.copy_((parts - mean).flatten(axis, axis + 1))


@torch.no_grad()
def _fold(
    model: nn.Module,
    *,
    graph: Graph,
    walk: Walk,
    parameter: str,
    rows: tuple[int, int],
) -> None:
    own = writable(model, parameter, frozen=True)
    if not own[slice(*rows)].any():
        return
    places = {carrier.name: carrier for carrier in walk.carriers}
    found = amounts(graph, walk, drawn(model, graph), parameter, *rows)
    for name, amount in found.items():
        carrier = places[name]
        into: Tensor = (
            model.get_buffer(name)
            if carrier.kind == "batch-norm"
            else writable(model, name, frozen=True)
        )
        at = rows if carrier.kind == "rnn" else carrier.rows
        if at is not None:
            into = into[slice(*at)]
        sign = -1 if carrier.kind == "batch-norm" else 1
        into.copy_(into.cpu().double() + sign * amount.cpu())
    own[slice(*rows)] = 0
