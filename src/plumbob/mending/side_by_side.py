"""Certificates of moves of values, for a model whose values are read block by block."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from plumbob.certificate import Certificate
from plumbob.errors import InputError
from plumbob.mending.acts import Act, Given, on_the_way, planned
from plumbob.mending.certify import coarsest, drawn
from plumbob.mending.distances import distance, moving
from plumbob.mending.give_up import can_go
from plumbob.mending.offer import Offer
from plumbob.mending.plan import Plan
from plumbob.mending.stored import Drawn
from plumbob.mending.trying import effects_of, refused
from plumbob.survey.batches import Batch
from plumbob.survey.edit import Edit
from plumbob.survey.evaluate import Edits, Store, evaluate, whole
from plumbob.survey.graph import Graph
from plumbob.survey.replay import EPS, bound_of, fixed
from plumbob.types import Safety

Rewrite = Sequence[Offer]  # at all its places


def certificates(
    plan: Plan,
    rewrites: Sequence[Rewrite],
    store: Store,
    *,
    mode: str,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[dict[str, list[Edit]], list[Certificate | str]]:
    """Return what all rewrites do, and of each a certificate, or why there is none.

    Args:
        plan: of the model without values.
        rewrites: offers of acts, in order.
        store: of the values.
        mode: "drop" or "zero".
        seed: of the random values.
        tell: called with what is done next.
    """
    known = frozenset(plan.structure.graphs[False].parameters.values())
    stores = (store, Drawn(store, known, seed + 1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = _compare(plan, rewrites, stores, tell)
    dtype = coarsest(map(store.dtype, known))
    ulp = torch.finfo(dtype).eps
    bound = bound_of(found.noise)
    # a model in float64 is its own truth: how it rounds is told by an ulp of it
    least = found.noise if dtype is torch.float64 else 0.0
    made: list[Certificate | str] = []
    before: Edits = {}
    for offers, edits, error in zip(rewrites, found.edits, found.errors, strict=True):
        changed = {n for n, mine in edits.items() if len(mine) > len(before.get(n, ()))}
        empty = {
            name
            for offer in offers
            for name in offer.cleared
            if not whole(store, name, edits.get(name, ())).any()
        }
        gone = {n for n in empty if mode == "drop" and can_go(plan.model, n)}
        removed, frozen = tuple(sorted(gone)), tuple(sorted(empty - gone))
        one = Certificate(
            claim=Safety.EXACT if _exact(offers) else Safety.EVAL_ONLY,
            steps=tuple(dict.fromkeys(_steps(offers))),
            probes=found.tried,
            seed=seed,
            identity_ulps=error.identity / EPS,
            bound=bound / EPS,
            stored_ulps=error.stored / ulp,
            rounding=max(error.rounding, least) / ulp,
            dtype=str(dtype).removeprefix("torch."),
            removed=removed,
            changed=tuple(sorted(changed - gone)),
            frozen=frozen,
            side_effects=tuple(
                dict.fromkeys(effects_of(offers, removed=removed, frozen=frozen))
            ),
            rewrite=offers[0].rewrite,
            code=offers[0].code,
            places=tuple(offer.place for offer in offers),
        )
        made.append(error.why or refused(one) or one)
        before = edits
    return (found.edits[-1] if found.edits else {}), made


def _exact(offers: Rewrite) -> bool:
    return all(offer.safety is Safety.EXACT for offer in offers)


def _steps(offers: Rewrite) -> Iterator[str]:
    """Yield the proofs; that they were not tested without values is no more so."""
    for offer in offers:
        yield from (s for s in offer.steps if "not tested: " not in s)


@dataclass(slots=True)
class _Error:
    """Of one rewrite: see Certificate. `why` it cannot be done, "" where it can."""

    identity: float = 0.0
    stored: float = 0.0
    rounding: float = 0.0
    why: str = ""


@dataclass(slots=True)
class _Compared:
    """What was done after each rewrite, and how far it is from before.

    `tried` counts the values at which an output was finite somewhere.
    """

    errors: list[_Error]
    tried: int = 0
    edits: list[dict[str, list[Edit]]] = field(
        default_factory=list[dict[str, list[Edit]]]
    )
    noise: float = 0.0


def _compare(
    plan: Plan,
    rewrites: Sequence[Rewrite],
    stores: Sequence[Store],
    tell: Callable[[str], None],
) -> _Compared:
    """Put the model after each rewrite beside the one before it."""
    found = _Compared(errors=[_Error() for _ in rewrites])
    exact = [_exact(offers) for offers in rewrites]
    modes = (False, True) if any(exact) else (False,)
    for number, store in enumerate(stores):
        probe = f"probe {number + 1} of {len(stores)}"
        tell(f"{probe}: what moves")
        batch = drawn(plan.batch) if number else plan.batch
        edits = _planned(rewrites, found.errors, store, batch)
        found.edits, shows = found.edits or edits, True
        for training in modes:
            graph = plan.structure.graphs[training]
            mode = "training" if training else "inference"
            tell(f"{probe}: {mode} in float64")
            claimed = [i for i, claims in enumerate(exact) if claims or not training]
            # of the models after each rewrite those that are compared: 0 is as given
            models = sorted({0, *claimed, *(i + 1 for i in claimed)})
            variants = [edits[i - 1] if i else {} for i in models]
            with fixed():
                more = [*variants, _jitter(graph, store)]
                *outputs, last = _outputs(graph, batch, store, more)
            truths = dict(zip(models, outputs, strict=True))
            shows &= any(bool(t.isfinite().any()) for t in truths[0])
            moved = moving(truths[0], last)
            found.noise = max(found.noise, distance(last, truths[0], moved))
            for i in claimed:
                error = found.errors[i]
                far = distance(truths[i + 1], truths[i], moved)
                error.identity = max(error.identity, far)
            if number:
                continue
            tell(f"{probe}: {mode} as stored")
            outputs = _outputs(graph, batch, store, variants, wide=False)
            own = dict(zip(models, outputs, strict=True))
            for i in claimed:
                error = found.errors[i]
                # in inference from the model as given, so that it does not add up
                at = i if training else 0
                before, after = (
                    distance(own[j], truths[at], moved, everywhere=False)
                    for j in (at, i + 1)
                )
                error.rounding = max(error.rounding, before)
                error.stored = max(error.stored, after)
        found.tried += shows
    return found


def _planned(
    rewrites: Sequence[Rewrite], errors: Sequence[_Error], store: Store, batch: Batch
) -> list[dict[str, list[Edit]]]:
    """Return what was done after each rewrite; one that cannot be done does nothing."""
    acts = [[o.act for o in rewrite if isinstance(o.act, Act)] for rewrite in rewrites]
    done: dict[str, list[Edit]] = {}
    found: list[dict[str, list[Edit]]] = []
    every = [act for mine in acts for act in mine]
    read = on_the_way(every, store, lambda graph: _fed(graph, batch))
    for mine, error in zip(acts, errors, strict=True):
        try:
            done = planned(mine, store, done, read)
        except InputError as refused:
            error.why, error.identity = str(refused), inf
        found.append(done)
    return found


@torch.no_grad()
def _outputs(
    graph: Graph,
    batch: Batch,
    store: Store,
    variants: Sequence[Edits],
    *,
    wide: bool = True,
) -> list[list[Tensor]]:
    """Return the floating-point outputs of each variant, in float64."""
    order = list(graph.module.graph.nodes)
    outputs = [node for node in order if node.name in graph.outputs]
    met = evaluate(
        graph, _fed(graph, batch, wide=wide), store, variants, keep=outputs, wide=wide
    )
    found: list[list[Tensor]] = [[] for _ in variants]
    for node in outputs:
        for i, mine in enumerate(found):
            value = met[node][i % len(met[node])] if node in met else None
            if isinstance(value, Tensor) and value.is_floating_point():
                mine.append(value.double())
    return found


def _fed(graph: Graph, batch: Batch, *, wide: bool = True) -> Given:
    """Return the values of the inputs of a graph, and of its constants.

    Raises:
        InputError: the batch is not what the graph was traced with.
    """
    leaves = pytree.tree_leaves((batch.args, dict(batch.kwargs)))
    known = {*graph.parameters, *graph.buffers}
    found: dict[fx.Node, Sequence[Any]] = {}
    nodes = [n for n in graph.module.graph.nodes if n.op == "placeholder"]
    users = [node for node in nodes if node.name not in known]
    if len(users) != len(leaves):
        raise InputError(
            f"expected {len(users)} inputs, as the model was traced with, got "
            f"{len(leaves)}; give plain tensors"
        )
    pairs = [*zip(users, leaves, strict=True)]
    pairs += [(n, graph.constants[n.name]) for n in nodes if n.name in graph.constants]
    for node, leaf in pairs:
        if isinstance(leaf, Tensor):
            value = node.meta["val"]
            leaf = leaf[: len(value)] if leaf.dim() else leaf
            if leaf.is_floating_point():
                leaf = leaf.to(torch.float64 if wide else value.dtype)
        found[node] = [leaf]
    return found


def _jitter(graph: Graph, store: Store) -> Edits:
    """Return edits that move all vectors by one unit in the last place."""
    edits: dict[str, list[Edit]] = {}
    for name in dict.fromkeys(graph.parameters.values()):
        if len(store.shape(name)) == 1 and store.dtype(name).is_floating_point:
            own = whole(store, name)
            sign = 2.0 * torch.randint(0, 2, own.shape).double() - 1
            edits[name] = [Edit(name, (0, len(own)), EPS * sign * own)]
    return edits
