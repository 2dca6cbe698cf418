"""Offers to do along a direction that no output sees what can be done there."""

from plumbob.errors import InputError
from plumbob.mending.acts import Act, Centre, Clear, Fold
from plumbob.mending.hooks import hooked
from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.survey.writable import writable
from plumbob.types import Proof, Safety

Offered = Offer | Refusal
ONE_PATH = "the model does not export, so this is known of one recorded run only"


def cleared(plan: Plan, proof: Proof, *, rewrite: str, code: str) -> Offered:
    """Offer to set rows to 0 that nothing sees; a running mean gives them up."""
    act = Clear(parameter=proof.parameter, rows=proof.rows, norm=proof.norm)
    effects = (f"{proof.norm}.running_mean moves by the bias",) if proof.norm else ()
    return _offer(plan, proof, rewrite, code, act, effects=effects)


def centred(plan: Plan, proof: Proof, *, rewrite: str, code: str = "") -> Offered:
    """Offer to take the common part of rows away, of all or of each group."""
    groups = proof.groups if proof.direction == "group" else 1
    act = Centre(
        parameter=proof.parameter, rows=proof.rows, groups=groups, axis=proof.axis
    )
    scaled = (
        f"{proof.parameter}: its norm, by which LAMB and Adafactor scale steps, changes"
    )
    effects = (scaled,) if plan.goal == "training" else ()
    return _offer(plan, proof, rewrite, code, act, cleared=(), effects=effects)


def folded(plan: Plan, proof: Proof, *, rewrite: str, code: str) -> Offered:
    """Offer to move rows into the parameters that can carry them."""
    graph = plan.structure.graphs[False]
    walk = plan.structure.walks[proof]["inference"]
    act = Fold(graph=graph, walk=walk, parameter=proof.parameter, rows=proof.rows)
    into = tuple(dict.fromkeys(proof.carriers))
    take = "takes" if len(into) == 1 else "take"
    effects = (f"{', '.join(into)} {take} over what {proof.parameter} gives up",)
    return _offer(plan, proof, rewrite, code, act, effects=effects)


def _offer(
    plan: Plan,
    proof: Proof,
    rewrite: str,
    code: str,
    act: Act,
    *,
    cleared: tuple[str, ...] | None = None,
    effects: tuple[str, ...] = (),
) -> Offered:
    place, frozen = proof.parameter, plan.goal == "inference"
    names = (place, *proof.carriers)
    why = ONE_PATH if proof.on_this_path else None
    if why is None:
        try:
            for name in names:
                if not name.endswith(".running_mean"):
                    writable(plan.model, name, frozen=frozen, hollow=True)
            why = hooked(plan.model, names, plan.walks(proof).values())
        except InputError as error:
            why = str(error)
    if why is not None:
        return Refusal(rewrite=rewrite, code=code, place=place, why=why)
    stays = proof.inference == "null" or proof.norm is not None
    exact = stays and proof.training == "null"
    return Offer(
        rewrite=rewrite,
        code=code,
        place=place,
        safety=Safety.EXACT if exact else Safety.EVAL_ONLY,
        steps=proof.steps,
        act=act,
        cleared=_given_up(plan, place) if cleared is None else cleared,
        effects=effects,
    )


def _given_up(plan: Plan, name: str) -> tuple[str, ...]:
    """Return a vector's name where theorems are about all of its rows.

    Else the other rows count, even if they are 0 as yet: those of queries in a packed
    projection.
    """
    mine = [p for p in plan.proofs if p.parameter == name and p.direction == "each"]
    rows = {row for proof in mine for row in range(*proof.rows)}
    return (name,) if len(rows) == len(plan.model.get_parameter(name)) else ()
