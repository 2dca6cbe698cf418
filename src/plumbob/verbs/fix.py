"""`fix`: mend a model with proof."""

import copy
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from plumbob.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from plumbob.mending.mended import Mended
    from plumbob.mending.trying import Trying


def fix(
    model: "nn.Module",
    data: Any,
    *,
    goal: str = "inference",
    mode: str = "drop",
    select: str | Iterable[str] | None = None,
    optimizer: Any = None,
    unsafe: bool = False,
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
        select: codes of rules (PB301,PB303) or names of rewrites; if not given all that
            take something away.
        optimizer: whoever trains the model; a copy comes back in its place, with the
            groups and the state of what is left.
        unsafe: follow remedies too that change the function, after all others; nothing
            certifies these.
        seed: of the random values of the certificates.
        tell: called with a line per rewrite and per refusal.

    Returns:
        The mended copy (and the optimiser's, where one was given: a pair), and what
        proves it.

    Raises:
        InputError: the model cannot be copied or does not run on the data, or the goal,
            the mode, the seed or a selected name does not exist.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        >>> fixed, proof = plumbob.fix(model, torch.randn(8, 3, 6, 6), goal="training")
        >>> fixed[0].bias is None, proof.certificates[0].holds
        (True, True)
    """
    from plumbob.mending.form import form_of, unloadable
    from plumbob.mending.mended import Mended
    from plumbob.mending.offer import Offer
    from plumbob.mending.plan import planned
    from plumbob.mending.sizes import resized
    from plumbob.mending.trying import Trying
    from plumbob.rewrites import ON_DEMAND, REWRITES
    from plumbob.survey.batches import batches
    from plumbob.survey.writable import copyable
    from plumbob.verbs.all_or_nothing import copied

    aim: Any = one_of(goal, "goal", ("training", "inference"))
    way: Any = one_of(mode, "mode", ("drop", "zero"))
    chosen = selected(select)
    if not 0 <= seed < _SEEDS:
        raise InputError(f"expected a seed from 0 to {_SEEDS - 1:,}, got {seed}")
    asked = tuple(one for one in ON_DEMAND if _name(one) in (chosen or ()))
    copyable(model, trained=aim == "training")
    batch = next(batches(model, data, limit=1))
    before = sum(p.numel() for p in model.parameters())
    advice = "take out what is in the way (remove_weight_norm), or fix it before it ran"
    mended, held = copied(model, optimizer, advice)
    found = Mended(goal=aim, mode=mode, before=before, model=type(model).__name__)
    trying = Trying(
        batch=batch,
        other=resized(mended, batch, training=aim == "training"),
        origin=copy.deepcopy(mended),
        way=way,
        optimizer=held,
        seed=seed,
    )
    plan = None
    for _ in range(_ROUNDS):
        stale, done = True, False
        found.refused.clear()  # it may be done by now, or be refused again
        for rewrite in (*REWRITES, *asked):
            if plan is None or stale:
                plan = planned(mended, batch, aim, plan)
            places = [
                offer
                for offer in rewrite(plan)
                if chosen is None or {offer.code, offer.rewrite} & chosen
            ]
            did = _done(mended, places, trying, found, tell)
            stale = did and any(isinstance(p, Offer) and p.structural for p in places)
            done = done or did
        if not done:
            break
    if tell:
        for refusal in found.refused:
            tell(str(refusal))
    if unsafe:
        _follow(mended, batch, chosen, found, held, tell)
    after = sum(p.numel() for p in mended.parameters())
    form = form_of(model, mended)
    why = unloadable(form, model, mended)
    found = replace(found, after=after, form=form, unloadable=why)
    return (mended if optimizer is None else (mended, held)), found


def _name(rewrite: Callable[..., Any]) -> str:
    return rewrite.__name__.replace("_", "-")


_SEEDS = 1 << 31
_ROUNDS = 4  # what one rewrite lays bare another may take


def one_of(word: str, what: str, known: tuple[str, ...]) -> str:
    """Return a word that is known.

    Raises:
        InputError: it is not.
    """
    if word in known:
        return word
    raise InputError(
        f"expected the {what} {' or '.join(known)}, got {word!r}."
        f"{did_you_mean(str(word), known)}"
    )


def selected(select: str | Iterable[str] | None) -> frozenset[str] | None:
    """Return the codes and the names of rewrites that are asked for; None is all.

    Raises:
        InputError: a word is neither a rewrite's name nor a rule's code or name.
    """
    from plumbob.rewrites import ON_DEMAND, REWRITES
    from plumbob.verbs.shelf import shelf

    if select is None:
        return None
    names = {_name(rewrite) for rewrite in (*REWRITES, *ON_DEMAND)}
    rules = shelf()
    chosen = set[str]()
    for part in select.split(",") if isinstance(select, str) else select:
        word = part.strip()
        meant = {r.code for r in rules if word and r.code.startswith(word.upper())} | {
            r.code for r in rules if r.name == word
        }
        if not meant and word not in names:
            known = [*names, *(w for r in rules for w in (r.code, r.name))]
            raise InputError(
                f"expected codes of rules (PB301,PB303) or names of rewrites, got "
                f"{word!r}; plumbob rules lists the codes.{did_you_mean(word, known)}"
            )
        chosen |= meant or {word}
    return frozenset(chosen)


def _follow(
    model: "nn.Module",
    batch: Any,
    chosen: frozenset[str] | None,
    found: "Mended",
    optimizer: Any,
    tell: Callable[[str], None] | None,
) -> None:
    """Follow, in place, the remedies that change the function."""
    from plumbob.mending.mended import Unsafe
    from plumbob.mending.offer import Refusal
    from plumbob.types import Safety
    from plumbob.verbs.apply import follow
    from plumbob.verbs.check import check

    report = check(model, dict(batch.kwargs) or batch.args)
    roots = [
        finding
        for finding in report.findings
        if finding.remedy.act and finding.remedy.safety is Safety.CHANGES_TRAINING
        if chosen is None or finding.code in chosen
    ]
    with warnings.catch_warnings():  # why one was left is among the refusals
        warnings.filterwarnings("ignore", ".*: left, ", UserWarning)
        for finding, left in follow(roots, report, model, optimizer):
            act, site = str(finding.remedy.act), finding.site or ""
            if left:
                one = Refusal(rewrite=act, code=finding.code, place=site, why=left)
                found.refused.append(one)
            else:
                one = Unsafe(
                    code=finding.code,
                    name=finding.name,
                    site=site,
                    act=act,
                    advice=finding.remedy.advice,
                )
                found.unsafe.append(one)
            if tell:
                tell(str(one))


def _done(
    model: "nn.Module",
    places: "list[Any]",
    trying: "Trying",
    found: "Mended",
    tell: Callable[[str], None] | None,
) -> bool:
    """Do one rewrite at all its places, or at those where it holds by itself."""
    from plumbob.mending.offer import Offer

    offers = [place for place in places if isinstance(place, Offer)]
    refusals = [place for place in places if not isinstance(place, Offer)]
    certificates, failed = trying.take_up(model, offers)
    known = dict(model.named_parameters())
    done = {n for n, p in known.items() if not (p.requires_grad or p.any())}
    for refusal in (*refusals, *failed):
        if refusal not in found.refused and refusal.place not in done:
            found.refused.append(refusal)
    for certificate in certificates:
        found.certificates.append(certificate)
        if tell:
            tell(str(certificate))
    return bool(certificates)
