"""`fix`: mend a model with proof."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from plumbob.mending.mended import Mended
    from plumbob.mending.plan import Plan


def fix(
    model: "nn.Module",
    data: Any,
    *,
    goal: Literal["training", "inference"] = "inference",
    mode: Literal["drop", "zero"] = "drop",
    select: str | Iterable[str] | None = None,
    optimizer: Any = None,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
) -> "tuple[Any, Mended]":
    """Take away what a model does without, and prove that it stays the same function.

    Why:
        A direction that no output sees distorts curvature, averages and comparisons of
        models, and an optimiser moves it on rounding noise. The worth is in the proof
        and the tidiness, not in the size.

    Args:
        model: what to mend; it is left as it is.
        data: what it is fed: a batch, a tuple, a mapping or a loader.
        goal: "inference" also moves what other parameters carry; "training" does only
            what changes no training either, but for the side effects that are named.
        mode: "drop" takes parameters away, "zero" keeps the names and freezes them.
        select: codes of rules (PB301,PB303) or names of rewrites; all if not given.
        optimizer: whoever trains the model; a copy comes back in its place.
        seed: of the random values of the certificates.
        tell: called with a line per rewrite and per refusal.

    Returns:
        The mended copy (and the optimiser's, where one was given: a pair), and what
        proves it.

    Raises:
        InputError: the model cannot be copied or does not run on the data, or a
            selection names nothing.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        >>> fixed, proof = plumbob.fix(model, torch.randn(8, 3, 6, 6))
        >>> fixed[0].bias is None, proof.certificates[0].holds
        (True, True)
    """
    from plumbob.mending.mended import Mended
    from plumbob.mending.offer import Offer
    from plumbob.rewrites import REWRITES
    from plumbob.survey.batches import batches
    from plumbob.verbs.all_or_nothing import copied

    batch = next(batches(model, data, limit=1))
    chosen = _selected(select)
    before = sum(p.numel() for p in model.parameters())
    mended, held = copied(model, optimizer)
    found = Mended(goal=goal, mode=mode, before=before)
    for _ in range(_ROUNDS):
        plan, done = None, False
        for rewrite in REWRITES:
            plan = plan or _plan(mended, batch, goal)
            places = [
                offer
                for offer in rewrite(plan)
                if chosen is None or {offer.code, offer.rewrite} & chosen
            ]
            did = _done(mended, batch, places, found, mode, held, seed, tell)
            if did and any(isinstance(p, Offer) and p.structural for p in places):
                plan = None
            done = done or did
        if not done:
            break
    after = sum(p.numel() for p in mended.parameters())
    found = replace(found, after=after)
    return (mended if optimizer is None else (mended, held)), found


_ROUNDS = 4  # what one rewrite lays bare another may take


def _plan(model: "nn.Module", batch: Any, goal: Any) -> "Plan":
    from plumbob.mending.plan import Plan
    from plumbob.survey.structures import read

    return Plan(model=model, batch=batch, structure=read(model, batch), goal=goal)


def _selected(select: str | Iterable[str] | None) -> frozenset[str] | None:
    if select is None:
        return None
    words = select.split(",") if isinstance(select, str) else select
    return frozenset(word.strip() for word in words)


def _done(
    model: "nn.Module",
    batch: Any,
    places: "list[Any]",
    found: "Mended",
    mode: Any,
    optimizer: Any,
    seed: int,
    tell: Callable[[str], None] | None,
) -> bool:
    """Do one rewrite at all its places, or at those where it holds by itself."""
    from plumbob.mending.offer import Offer
    from plumbob.mending.trying import tried

    offers = [place for place in places if isinstance(place, Offer)]
    refusals = [place for place in places if not isinstance(place, Offer)]
    certificates, failed = tried(model, batch, offers, mode, optimizer, seed)
    for refusal in (*refusals, *failed):
        if refusal not in found.refused:
            found.refused.append(refusal)
            if tell:
                tell(str(refusal))
    for certificate in certificates:
        found.certificates.append(certificate)
        if tell:
            tell(str(certificate))
    return bool(certificates)
