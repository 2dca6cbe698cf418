"""What targets are: classes, zeros and ones, shares, few whole numbers, or numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from plumbob.survey.loss_at import Laid, LossAt

_FEW = 20  # whole numbers that may be the numbers of classes
_EACH = 5  # samples of each


@dataclass(frozen=True)
class Aimed:
    """The targets laid out as the outputs are, and what they are taken for.

    `hot` is 1 at the units that are meant, 0 elsewhere; None for numbers.
    """

    kind: str | None
    values: Laid | None = None
    hot: Laid | None = None
    levels: int = 0


def aimed(at: LossAt) -> Aimed:
    """Recognise the targets by their values and their shape."""
    given = at.given
    units = given.shape[1]
    if len(at.aims) != 1 or at.aims[0].is_complex():
        return Aimed(None)
    (aim,) = at.aims
    levels = len(aim.unique())
    if units > 1 and aim.numel() * units == given.numel():
        classes = aim.reshape(len(given), -1).double()
        known = (classes >= 0) & (classes < units)
        if (classes != classes.round()).any() or not known.any():
            return Aimed(None)
        hot = one_hot(classes.where(known, 0).long(), units).movedim(-1, 1)
        hot = (hot * known[:, None]).to(given)
        return Aimed("classes", hot, hot, levels)
    if aim.numel() != given.numel():
        return Aimed(None)
    values = _as_outputs(aim.to(given), at)
    whole = bool((values == values.round()).all())
    if bool(((values == 0) | (values == 1)).all()):
        one = units > 1 and bool((values.sum(1) == 1).all())
        return Aimed("one-hot" if one else "binary", values, values, levels)
    if units > 1 and bool((values >= 0).all()):
        sums = values.sum(1)
        if torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            top = one_hot(values.argmax(1), units).movedim(-1, 1).to(given)
            return Aimed("shares", values, top, levels)
    full = whole and values.min() == 0 and values.max() == levels - 1
    if units == 1 and full and levels <= min(_FEW, len(values) / _EACH):
        return Aimed("levels", values, None, levels)
    return Aimed("numbers", values, None, levels)


def _as_outputs(aim: Tensor, at: LossAt) -> Laid:
    shaped = aim.reshape(at.shape)
    turned = shaped[:, None] if shaped.ndim == 1 else shaped.movedim(at.axis, 1)
    return turned.reshape(at.given.shape)
