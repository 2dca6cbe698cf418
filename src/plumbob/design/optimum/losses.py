"""torch's loss modules, read by type and their own settings."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from plumbob.design import prior
from plumbob.errors import InputError
from plumbob.survey.aims import Aim

CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)
_NUMBERS = (*CLASSES, nn.MultiLabelMarginLoss)  # targets may be whole numbers
_BLIND = (
    nn.MarginRankingLoss,
    nn.TripletMarginLoss,
    nn.TripletMarginWithDistanceLoss,
)


def _log_softmax(z: Tensor) -> Tensor:
    return log_softmax(z, 1)


# what stands between the scores and a loss that does not take scores
BEFORE: Mapping[type, tuple[str, Callable[[Tensor], Tensor]]] = {
    nn.BCELoss: ("sigmoid", torch.sigmoid),
    nn.KLDivLoss: ("log_softmax", _log_softmax),
    nn.NLLLoss: ("log_softmax", _log_softmax),
}


class Formula(NamedTuple):
    """The best constant as a sum of terms (name -> values); `high` ends an interval."""

    terms: dict[str, Tensor]
    note: str
    high: Tensor | None = None


def known(loss: Any) -> bool:
    """Whether this is a loss of torch's as it is: a subclass or a hook may do more."""
    return (
        isinstance(loss, nn.Module)
        and type(loss).__module__ == "torch.nn.modules.loss"
        and not (loss._forward_hooks or loss._forward_pre_hooks)  # pyright: ignore[reportPrivateUsage]
        and "forward" not in vars(loss)
    )


def formula(loss: Any, aim: Aim) -> Formula | None:
    """Return the formula's best constant, or None where there is no formula.

    Raises:
        InputError: the loss does not see a constant, or not such targets.
    """
    read = _READ.get(type(loss)) if known(loss) else None
    return None if read is None else read(loss, aim)


def refuse_blind(loss: Any) -> None:
    """Refuse losses that only compare outputs.

    Raises:
        InputError: this is one.
    """
    if isinstance(loss, _BLIND):
        raise InputError(
            f"expected a loss that sees a constant of the output, got "
            f"{type(loss).__name__}, which compares outputs: their bias is free; leave "
            "it as it is"
        )


class OnScores(nn.Module):
    """A copy of a loss as a function of scores, in float64.

    Args:
        loss: left as it is.
        each: return the loss of each sample or number, not reduced (torch's alone).
    """

    def __init__(self, loss: nn.Module, *, each: bool) -> None:
        super().__init__()
        self.loss = copy.deepcopy(loss).double().cpu()
        self.link = BEFORE.get(type(loss), ("", nn.Identity()))[1]
        self.values = known(loss) and not isinstance(loss, _NUMBERS)
        if each and known(loss):
            vars(self.loss)["reduction"] = "none"

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss of scores z (N, units, ...) for the targets y."""
        y = y.to(z.dtype) if self.values else y
        if type(self.loss) is nn.GaussianNLLLoss:
            return self.loss(z, y, torch.ones_like(z))
        return self.loss(self.link(z), y)


def halves(loss: Any, aim: Aim) -> tuple[Tensor, Tensor] | None:
    """Return targets with weights that count 1/2 where a class or label has none.

    As the formulas do, so that no bias goes to infinity beside scores that vary.
    """
    y = aim.y
    if not known(loss):
        return None
    if aim.classes and isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
        y_kept, _ = _kept(loss, aim)
        absent = prior.classes.shares(y_kept, aim.units, absent=0.0) == 0
        more = absent.nonzero().reshape(-1, *[1] * (y.ndim - 1))
        more = more.expand(-1, *y.shape[1:]).to(y.dtype)
        return more, torch.full(more.shape, 0.5 / y[:1].numel())
    own = getattr(loss, "weight", None)
    plain = own is None or own.numel() in {1, aim.units}
    if isinstance(loss, (nn.BCEWithLogitsLoss, nn.BCELoss)) and y.ndim < 3 and plain:
        mean = y.double().mean(0)
        edge = ((mean <= 0) | (mean >= 1)).double() / 2
        return torch.stack([torch.zeros_like(y[0]), torch.ones_like(y[0])]), (
            edge.expand(2, *edge.shape)
        )
    return None


def _bce(loss: Any, aim: Aim) -> Formula | None:
    pos_weight = getattr(loss, "pos_weight", None)
    for own in (loss.weight, pos_weight):
        dense = aim.y.ndim > 2  # there a weight lies along the last axis, not the units
        if own is not None and own.numel() != 1 and (dense or len(own) != aim.units):
            return None
    if loss.weight is not None and loss.weight.shape[-1:] not in {
        (),
        (1,),
        (aim.units,),
    }:
        return None
    found = _rates(*aim.rows())
    if pos_weight is not None:
        moved = prior.sampling.pos_weight(pos_weight.detach().cpu().reshape(-1))
        found.terms["log pos_weight"] = moved
    return found._replace(note=found.note + _before(loss))


def _multilabel(loss: Any, aim: Aim) -> Formula:
    return _rates(*aim.rows())


def _soft_margin(loss: Any, aim: Aim) -> Formula:
    y, weight = aim.rows()
    return _rates((y + 1) / 2, weight)


def _rates(y: Tensor, weight: Tensor | None) -> Formula:
    low, high = (float(v) for v in y.aminmax())
    if low < 0 or high > 1:
        raise InputError(
            f"expected labels from 0 to 1 (-1 to 1 for SoftMarginLoss), got rates from "
            f"{low:g} to {high:g} in {list(y.shape)}; for classes use CrossEntropyLoss"
        )
    p = prior.binary.rate(y, weight)
    raw = prior.regression.mean(y, weight)
    edge = bool(((raw <= 0) | (raw >= 1)).any())
    tail = "; a count of 0 is taken as 1/2" if edge else ""
    return Formula({"log-odds": prior.binary.log_odds(p)}, f"rate {_say(p)}{tail}")


def _cross_entropy(loss: Any, aim: Aim) -> Formula:
    smoothing = float(getattr(loss, "label_smoothing", 0.0))
    totals, w = _totals(loss, aim), _class_weight(loss, aim.units)
    absent = totals == 0 if not smoothing else torch.zeros_like(totals).bool()
    if w is not None:
        absent = absent | (w == 0)
        w = torch.where(w == 0, w[w > 0].min(), w)
    totals = torch.where(absent, 0.5, totals)
    shares = totals / totals.sum()
    plain = torch.where(shares == 0, 0.5 / totals.sum(), shares)
    terms = {"log shares": prior.classes.log_shares(plain)}
    if smoothing:
        soft = prior.classes.log_shares(shares, smoothing=smoothing)
        terms["label smoothing"] = soft - terms["log shares"]
    if w is not None:
        terms["log class weight"] = w.log() - w.log().mean()
    few = int(absent.sum())
    tail = f"; {few} classes without targets or weight count 1/2 each" if few else ""
    return Formula(terms, f"shares {_say(shares)}, centred{tail}{_before(loss)}")


def _totals(loss: Any, aim: Aim) -> Tensor:
    """Return how often each class occurs, weighted."""
    y, weight = _kept(loss, aim) if aim.classes else aim.rows()
    if not aim.classes:
        return _probabilities(y, weight) * len(y)
    count = len(y) if weight is None else weight.sum()
    return prior.classes.shares(y, aim.units, weight, absent=0.0) * count


def _probabilities(y: Tensor, weight: Tensor | None) -> Tensor:
    if float(y.min()) < 0 or not y.any():
        raise InputError(
            f"expected probabilities of the classes, got numbers from "
            f"{float(y.min()):g} to {float(y.max()):g} in {list(y.shape)}; for class "
            "numbers pass whole numbers (dtype long)"
        )
    return prior.regression.mean(y, weight)


def _divergence(loss: nn.KLDivLoss, aim: Aim) -> Formula:
    y, weight = aim.rows()
    share = _probabilities(y.exp() if loss.log_target else y, weight)
    share = torch.where(share == 0, 0.5 / len(y), share)
    share = share / share.sum()
    terms = {"log shares": prior.classes.log_shares(share)}
    return Formula(terms, f"shares {_say(share)}, centred{_before(loss)}")


def _kept(loss: Any, aim: Aim) -> tuple[Tensor, Tensor | None]:
    """Return the class numbers that the loss does not ignore, and their weights."""
    y, weight = aim.rows()
    kept = y != loss.ignore_index
    return y[kept], None if weight is None else weight[kept]


def _class_weight(loss: Any, units: int) -> Tensor | None:
    weight = getattr(loss, "weight", None)
    if weight is None:
        return None
    w = weight.detach().cpu().double()
    if (
        w.shape != (units,)
        or not bool(w.isfinite().all())
        or w.min() < 0
        or not w.any()
    ):
        raise InputError(
            f"expected weights of 0 or more of {units} classes, not all 0, got "
            f"{w.tolist() if len(w) < 10 else list(w.shape)}; mend the loss's weight="
        )
    return w


def _before(loss: Any) -> str:
    name = BEFORE.get(type(loss), ("",))[0]
    return f"; of the scores before {name}" if name else ""


def _mean(loss: Any, aim: Aim) -> Formula:
    tail = "squared error"
    if isinstance(loss, nn.GaussianNLLLoss):
        tail = "of the mean, one variance for all samples"
    return Formula({"mean": prior.regression.mean(*aim.rows())}, tail)


def _median(loss: Any, aim: Aim) -> Formula:
    y, weight = aim.rows()
    low, high = prior.regression.quantile(y, 0.5, weight)
    return Formula({"median": (low + high) / 2}, "middle of the medians", high)


def _huber(loss: Any, aim: Aim) -> Formula:
    delta = loss.delta if isinstance(loss, nn.HuberLoss) else loss.beta
    if delta == 0:
        return _median(loss, aim)
    y, weight = aim.rows()
    low, high = prior.regression.huber(y, delta, weight)
    return Formula({"Huber's mean": (low + high) / 2}, f"delta {delta:g}", high)


def _poisson(loss: nn.PoissonNLLLoss, aim: Aim) -> Formula:
    y, weight = aim.rows()
    if float(y.min()) < 0:
        raise InputError(
            f"expected counts of 0 or more, got {float(y.min()):g} in {list(y.shape)}; "
            "for other numbers use MSELoss"
        )
    rate = prior.regression.mean(y, weight)
    tail = "; a count of 0 is taken as 1/2" if bool((rate == 0).any()) else ""
    rate = torch.where(rate == 0, 0.5 / len(y), rate)
    terms = {"log mean": rate.log()} if loss.log_input else {"mean": rate}
    return Formula(terms, f"mean count {_say(rate)}{tail}")


def _say(values: Tensor) -> str:
    shown = ", ".join(f"{v:.4g}" for v in values.flatten()[:4].tolist())
    return shown + (", ..." if values.numel() > 4 else "")


_READ: Mapping[type, Callable[[Any, Aim], Formula | None]] = {
    nn.BCELoss: _bce,
    nn.BCEWithLogitsLoss: _bce,
    nn.CrossEntropyLoss: _cross_entropy,
    nn.GaussianNLLLoss: _mean,
    nn.HuberLoss: _huber,
    nn.KLDivLoss: _divergence,
    nn.L1Loss: _median,
    nn.MSELoss: _mean,
    nn.MultiLabelSoftMarginLoss: _multilabel,
    nn.NLLLoss: _cross_entropy,
    nn.PoissonNLLLoss: _poisson,
    nn.SmoothL1Loss: _huber,
    nn.SoftMarginLoss: _soft_margin,
}
