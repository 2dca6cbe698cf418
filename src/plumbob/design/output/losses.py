"""torch's loss modules, read by type and their own settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from plumbob.design import prior
from plumbob.errors import InputError

BLIND = (
    nn.MarginRankingLoss,
    nn.TripletMarginLoss,
    nn.TripletMarginWithDistanceLoss,
)


@dataclass(frozen=True)
class Known:
    """The best constant as a sum of terms (name -> values); `high` ends an interval."""

    terms: dict[str, Tensor]
    note: str
    high: Tensor | None = None


Read = Callable[[Any, Tensor, Tensor | None], Known | None]


def known(loss: Any, y: Tensor, units: int, weight: Tensor | None) -> Known | None:
    """Return the formula's best constant, or None where there is no formula.

    Only the very types of torch are known: a subclass may do anything in its forward.

    Args:
        loss: the loss module.
        y: targets: class indices (N, ...), or values, units last.
        units: of the output.
        weight: of the samples, (N,).

    Raises:
        InputError: the loss does not see a constant.
    """
    if isinstance(loss, BLIND):
        raise InputError(
            f"expected a loss that sees a constant of the output, got "
            f"{type(loss).__name__}, which compares outputs: their bias is free; leave "
            "it as it is"
        )
    if hooks(loss):
        return None
    read = _READ.get(type(loss))
    return None if read is None else read(loss, y.reshape(_form(y, units)), weight)


def hooks(loss: Any) -> bool:
    """Whether the loss's forward is not the one of its type."""
    return isinstance(loss, nn.Module) and (
        bool(loss._forward_hooks or loss._forward_pre_hooks)  # pyright: ignore[reportPrivateUsage]
        or "forward" in vars(loss)
    )


def _form(y: Tensor, units: int) -> tuple[int, ...]:
    return (-1, units) if y.is_floating_point() else (-1,)


def _smoothed(p: Tensor, y: Tensor) -> str:
    raw = y.double().mean(0)
    edge = bool(((raw <= 0) | (raw >= 1)).any())
    return "; a count of 0 is taken as 1/2" if edge else ""


def _bce(loss: nn.BCEWithLogitsLoss, y: Tensor, weight: Tensor | None) -> Known | None:
    own = loss.weight
    if own is not None:
        if own.ndim == 0 or own.numel() in {1, y.shape[1]}:
            own = None  # a factor of each label moves no optimum
        else:
            return None
    p = prior.binary.rate(y, weight)
    terms = {"log-odds": prior.binary.log_odds(p)}
    if loss.pos_weight is not None:
        if loss.pos_weight.numel() not in {1, y.shape[1]}:
            return None
        terms["log pos_weight"] = prior.sampling.pos_weight(
            loss.pos_weight.detach().cpu().reshape(-1)
        ).expand(len(p))
    return Known(terms, f"rate {_say(p)}{_smoothed(p, y)}")


def _multilabel(loss: Any, y: Tensor, weight: Tensor | None) -> Known:
    p = prior.binary.rate(y, weight)
    terms = {"log-odds": prior.binary.log_odds(p)}
    return Known(terms, f"rate {_say(p)}{_smoothed(p, y)}")


def _soft_margin(loss: Any, y: Tensor, weight: Tensor | None) -> Known:
    return _multilabel(loss, (y + 1) / 2, weight)


def _ce(loss: Any, y: Tensor, weight: Tensor | None) -> Known | None:
    smoothing = float(getattr(loss, "label_smoothing", 0.0))
    w = None if loss.weight is None else loss.weight.detach().cpu().double()
    if not y.is_floating_point():
        return None  # `indexed` knows the number of classes
    pi = prior.regression.mean(y, weight)
    pi = torch.where(pi == 0, 0.5 / len(y), pi)
    pi = pi / pi.sum()
    return _classes(pi, w, smoothing)


def indexed(loss: Any, y: Tensor, units: int, weight: Tensor | None) -> Known | None:
    """Return the best scores for class indices under torch's own class losses."""
    if hooks(loss) or type(loss) not in {nn.CrossEntropyLoss, nn.NLLLoss}:
        return None
    y = y.reshape(-1)
    if weight is not None:
        weight = weight.reshape(-1, 1).expand(len(weight), len(y) // len(weight))
        weight = weight.reshape(-1)
    kept = y != loss.ignore_index
    y = y[kept]
    pi = prior.classes.shares(y, units, None if weight is None else weight[kept])
    w = None if loss.weight is None else loss.weight.detach().cpu().double()
    absent = int((one_hot(y, units).sum(0) == 0).sum())
    tail = f"; {absent} absent classes count 1/2 each" if absent else ""
    return _classes(pi, w, float(getattr(loss, "label_smoothing", 0.0)), tail)


def _classes(
    pi: Tensor, w: Tensor | None, smoothing: float, tail: str = ""
) -> Known | None:
    if w is not None and bool((w <= 0).any()):
        return None
    plain = prior.classes.log_shares(pi)
    soft = prior.classes.log_shares(pi, smoothing=smoothing)
    terms = {"log shares": plain}
    if smoothing:
        terms["label smoothing"] = soft - plain
    if w is not None:
        terms["log class weight"] = w.log() - w.log().mean()
    return Known(terms, f"shares {_say(pi)}, centred{tail}")


def _mean(loss: Any, y: Tensor, weight: Tensor | None) -> Known:
    return Known({"mean": prior.regression.mean(y, weight)}, "squared error")


def _median(loss: Any, y: Tensor, weight: Tensor | None) -> Known:
    low, high = prior.regression.quantile(y, 0.5, weight)
    return Known({"median": (low + high) / 2}, "middle of the medians", high)


def _huber(loss: Any, y: Tensor, weight: Tensor | None) -> Known:
    delta = loss.delta if isinstance(loss, nn.HuberLoss) else loss.beta
    if delta == 0:
        return _median(loss, y, weight)
    low, high = prior.regression.huber(y, delta, weight)
    return Known({"Huber's mean": (low + high) / 2}, f"delta {delta:g}")


def _poisson(loss: nn.PoissonNLLLoss, y: Tensor, weight: Tensor | None) -> Known:
    rate = prior.regression.mean(y, weight)
    rate = torch.where(rate == 0, 0.5 / len(y), rate)
    return Known(
        {
            "log mean" if loss.log_input else "mean": rate.log()
            if loss.log_input
            else rate
        },
        f"mean count {_say(rate)}",
    )


_READ: dict[type, Any] = {
    nn.BCEWithLogitsLoss: _bce,
    nn.MultiLabelSoftMarginLoss: _multilabel,
    nn.SoftMarginLoss: _soft_margin,
    nn.CrossEntropyLoss: _ce,
    nn.MSELoss: _mean,
    nn.L1Loss: _median,
    nn.HuberLoss: _huber,
    nn.SmoothL1Loss: _huber,
    nn.PoissonNLLLoss: _poisson,
}


def _say(values: Tensor) -> str:
    shown = ", ".join(f"{v:.4g}" for v in values.flatten()[:4].tolist())
    return shown + (", ..." if values.numel() > 4 else "")
