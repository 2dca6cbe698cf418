"""How a loss behaves, without a model: of outputs that are made of a z at hand."""

import torch

from netting import seeded
from plumbob.rule import findings
from plumbob.survey.loss import behaviour
from plumbob.survey.loss_at import LossAt
from plumbob.types import Needs, Site, Survey


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def facts(loss, outputs, targets, *, z=None, batch=32):
    """Return what is known of a loss whose outputs are made of z, by default z."""
    z = outputs if z is None else z
    head = Site(
        name="head",
        kind="linear" if z.ndim < 4 else "conv",
        out=z.shape[-1 if z.ndim < 4 else 1],
        fan_in=1,
        weight="w",
        is_output=True,
    )
    return behaviour(LossAt.of(loss, outputs, targets), [(head, z)], batch)


def found(rule, loss, outputs, targets, **more):
    """Return a rule's findings on a loss."""
    known = facts(loss, outputs, targets, **more)
    survey = Survey(sites=(), known=Needs.LOSS, loss=known)
    return list(findings(rule, survey))
