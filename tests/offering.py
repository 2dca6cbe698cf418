"""One rewrite, done to a copy of a model, without the rest of `fix`."""

import copy

import torch

from plumbob.mending.offer import Offer, Refusal
from plumbob.mending.trying import _act
from plumbob.survey.batches import batches
from plumbob.survey.graph import tensors
from rewriting import planned, tried


def offers(rewrite, model, data, goal="inference"):
    """Return what a rewrite offers and refuses, from the inference graph alone."""
    return list(rewrite(planned(model, data, goal)))


def done(rewrite, model, data, way="drop"):
    """Return the mended copy and the certificate in float32; nothing may be refused.

    The copy is in the model's own dtype.
    """
    places = offers(rewrite, model, data)
    assert all(isinstance(place, Offer) for place in places), places
    mended = copy.deepcopy(model)
    _act(mended, offers=places, way=way)
    batch = next(batches(model, data.float(), limit=1))
    made, refused = tried(copy.deepcopy(model).float(), batch, places, way)
    assert not refused, refused
    return mended, made[0] if made else None


def refusal(rewrite, model, data):
    """Return why a rewrite is refused at its only place."""
    (place,) = offers(rewrite, model, data)
    assert isinstance(place, Refusal), place
    return place.why


def change(model, mended, x):
    """Return the largest change of the output, relative to its largest value."""
    with torch.no_grad():
        pairs = list(zip(tensors(model(x)), tensors(mended(x)), strict=True))
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def drawn(model, *sizes, seed=0):
    """Return a model in float64 for inference with random values, and an input."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for name, t in (*model.named_parameters(), *model.named_buffers()):
            if t.is_floating_point():
                t.copy_(torch.randn(t.shape, generator=generator))
                if name.endswith(("running_var", "std")):
                    t.abs_().add_(0.2)
    return model, torch.randn(sizes, generator=generator, dtype=torch.float64)
