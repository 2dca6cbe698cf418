"""Offers are taken up where their certificate holds."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from plumbob.certificate import Certificate
from plumbob.errors import InputError
from plumbob.mending.acts import Act, do
from plumbob.mending.certify import certify
from plumbob.mending.differences import differences, side_effects_of
from plumbob.mending.give_up import Way, give_up
from plumbob.mending.migrate import migrate
from plumbob.mending.offer import Offer, Refusal
from plumbob.survey.batches import Batch
from plumbob.types import Safety


@dataclass(frozen=True, slots=True, kw_only=True)
class Trying:
    """How offers are tried: on a `batch`, and an `other` of other sizes.

    `origin` is the model before all rewrites. What is cleared goes the `way` that was
    chosen, and the `optimizer` of the model, if there is one, follows it.
    """

    batch: Batch
    other: Batch
    origin: nn.Module
    way: Way
    optimizer: Any
    seed: int

    def take_up(
        self, model: nn.Module, offers: Sequence[Offer]
    ) -> tuple[list[Certificate], list[Refusal]]:
        """Take up the offers of one rewrite, in place, as far as they are certified.

        All are tried at once, and where that fails each by itself.
        """
        if not offers or _settled(model, offers, self.way):
            return [], []
        made = self._certificate(model, offers)
        if isinstance(made, str) and len(offers) > 1:
            parts = [self.take_up(model, [one]) for one in offers]
            return [c for p in parts for c in p[0]], [r for p in parts for r in p[1]]
        first = offers[0]
        if isinstance(made, str):
            return [], [refusal(first, made)]
        rebuilt = made.removed or made.added or made.side_effects
        if rebuilt and self.way == "zero":
            why = "it changes modules or shapes, which mode='zero' keeps"
            return [], [refusal(offer, why) for offer in offers]
        held = dict(model.named_parameters())
        _act(model, offers=offers, way=self.way)
        if self.optimizer is not None:
            migrate(self.optimizer, held, model)
        effects = dict.fromkeys(
            effects_of(offers, removed=made.removed, frozen=made.frozen)
        )
        return [
            replace(
                made,
                rewrite=first.rewrite,
                code=first.code,
                places=tuple(offer.place for offer in offers),
                side_effects=(*made.side_effects, *effects),
            )
        ], []

    def _certificate(
        self, model: nn.Module, offers: Sequence[Offer]
    ) -> Certificate | str:
        """Return the certificate, or why there is none."""
        exact = all(offer.safety is Safety.EXACT for offer in offers)
        steps = dict.fromkeys(step for offer in offers for step in offer.steps)
        try:
            made = certify(
                model,
                partial(_act, offers=offers, way=self.way),
                self.batch,
                claim=Safety.EXACT if exact else Safety.EVAL_ONLY,
                steps=tuple(steps),
                kept=frozenset[str]().union(*(offer.kept for offer in offers)),
                seed=self.seed,
                other=self.other,
                origin=self.origin,
            )
        except InputError as error:
            return str(error)
        return refused(made) or made


def _settled(model: nn.Module, offers: Sequence[Offer], way: Way) -> bool:
    """Say whether it was done before: nothing would change."""
    after = copy.deepcopy(model)
    try:
        _act(after, offers=offers, way=way)
    except InputError:  # the certificate says why
        return False
    changed = any(differences(model, after))
    return not (changed or any(side_effects_of(model, after)))


def _act(model: nn.Module, *, offers: Sequence[Offer], way: Way) -> None:
    acts = [offer.act for offer in offers]
    do(model, [act for act in acts if isinstance(act, Act)])  # at once: it is quicker
    for act in acts:
        if not isinstance(act, Act):
            act(model)
    give_up(model, (name for offer in offers for name in offer.cleared), way)


def refused(made: Certificate) -> str:
    """Return why what a certificate is of is not done, "" where it is."""
    if not made.holds:
        return f"the two differ: {made}"
    return "" if made.precise else f"it rounds too coarsely: {made}"


def refusal(offer: Offer, why: str) -> Refusal:
    """Return the refusal of an offer."""
    return Refusal(rewrite=offer.rewrite, code=offer.code, place=offer.place, why=why)


def effects_of(
    offers: Sequence[Offer], *, removed: Sequence[str], frozen: Sequence[str]
) -> Iterator[str]:
    """Yield what else changes where offers are taken up."""
    for offer in offers:
        yield from offer.effects
    if removed or frozen:
        yield "weight decay and clipping no longer count what is gone or frozen"
    if removed:
        yield "built without what is gone, a model draws other numbers from a seed"
