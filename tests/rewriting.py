"""One rewrite carried out by itself, and what it must leave alone."""

import copy

import torch

from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.plan import Plan
from plumbob.mending.sizes import resized
from plumbob.mending.trying import Trying
from plumbob.survey.batches import batches
from plumbob.survey.graph import export
from plumbob.survey.seen import seen
from plumbob.survey.structures import Structure


def planned(model, data, goal="inference"):
    batch = next(batches(model, data, limit=1))
    graph = export(model, batch.args, batch.kwargs, training=False)
    structure = Structure(sites=(), graphs={False: graph})
    return Plan(model=model, batch=batch, structure=structure, goal=goal)


def offers(rewrite, model, data, goal="inference"):
    return [o for o in rewrite(planned(model, data, goal)) if isinstance(o, Offer)]


def refusals(rewrite, model, data):
    """Return why the places are refused; nothing must be offered."""
    places = list(rewrite(planned(model, data)))
    assert all(isinstance(place, Refusal) for place in places)
    return [place.why for place in places]


def tried(model, batch, offers, way="drop"):
    """Take up offers in place; return the certificates, and the refusals."""
    trying = Trying(
        batch=batch,
        other=resized(model, batch),
        origin=copy.deepcopy(model),
        way=way,
        optimizer=None,
        seed=0,
    )
    return trying.take_up(model, offers)


def settled(rewrite, mended, data):
    """Say whether there is nothing left to do."""
    plan = planned(mended, data)
    places = [o for o in rewrite(plan) if isinstance(o, Offer)]
    return tried(mended, plan.batch, places) == ([], [])


def done(rewrite, model, data):
    """Return a copy to which a rewrite was done; the same function in float64."""
    before = seen(model)
    mended = copy.deepcopy(model).eval()
    plan = planned(mended, data)
    places = [o for o in rewrite(plan) if isinstance(o, Offer)]
    certificates, failed = tried(mended, plan.batch, places)
    assert certificates, failed
    assert not failed
    wide = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        truth = wide(data.double())
        for _ in range(2):  # once is enough
            for offer in places:
                offer.act(wide)
            torch.testing.assert_close(wide(data.double()), truth, rtol=0, atol=1e-13)
    assert seen(model) == before
    return mended
