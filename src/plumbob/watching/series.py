"""The few numbers of a log that are worth a chart: bounded, whatever the model."""

from collections.abc import Mapping
from math import isfinite

import numpy as np
from jaxtyping import Float

from plumbob.types import Log

QUANTILES = {"low": 0.05, "median": 0.5, "high": 0.95}
WORST = 3  # places of each kind


@np.errstate(all="ignore")  # a broken run's values are what they are
def series(log: Log) -> dict[str, float]:
    """Return at most some 60 numbers of a log by name; none of them is NaN.

    Losses are means since the last log. Of the parameters: the norms of all together,
    and quantiles of |dw|/|w|, |g|/|w| and the share that epsilon swallowed. Of the
    units: quantiles of the effective bias E[z], of sd[z] and of their ratio, the share
    that was positive never or always. "worst" are the largest, by rank and not by name,
    so that there are as many charts for every model; `places` says whose they are.
    """
    losses = {name: [v for _, v in some] for name, some in log.losses.items()}
    found = {
        f"loss/{name}" if len(losses) > 1 else "loss": float(np.mean(values))
        for name, values in losses.items()
        if values
    }
    if log.held:
        found["validation loss"] = float(np.mean([v for _, v in log.held]))
    marks = log.marks.values()
    rates = [m.lr for m in marks if isfinite(m.lr)]
    if rates:
        found["learning rate"] = max(rates)
    for name in ("size", "gradient", "change"):
        values = np.array([getattr(m, name) for m in marks], float)
        if len(known := values[~np.isnan(values)]):
            found[f"{name}/all"] = float(np.sqrt(np.sum(known**2)))
    for name, by_place in _by_place(log).items():
        values = np.array([*by_place.values()], float)
        found |= _quantiles(name, values)
        for rank, place in enumerate(_highest(by_place), 1):
            found[f"{name}/worst {rank}"] = by_place[place]
    for name, values in _units(log).items():
        found |= _quantiles(f"units/{name}", values)
    found |= _shares(log)
    return {name: value for name, value in found.items() if not np.isnan(value)}


def places(log: Log) -> dict[str, str]:
    """Return whose number each "worst" of `series` is: a parameter or a site."""
    return {
        f"{name}/worst {rank}": place
        for name, by_place in _by_place(log).items()
        for rank, place in enumerate(_highest(by_place), 1)
    }


def _by_place(log: Log) -> dict[str, dict[str, float]]:
    """Return what can be worst somewhere: by its name, by the place."""
    marks = {name: m for name, m in log.marks.items() if m.size > 0 and m.numel > 1}
    found = {
        "update ratio": {n: m.change / m.size for n, m in marks.items()},
        "gradient ratio": {n: m.gradient / m.size for n, m in marks.items()},
        "swallowed": {n: m.swallowed for n, m in marks.items()},
        "dead units": {
            name: float(np.mean(w.z.high[known] <= 0))
            for name, w in log.windows.items()
            if (known := w.z.count > 0).any()
        },
    }
    known = {
        name: {place: v for place, v in by_place.items() if not np.isnan(v)}
        for name, by_place in found.items()
    }
    return {name: by_place for name, by_place in known.items() if by_place}


def _highest(by_place: Mapping[str, float]) -> list[str]:
    return sorted(by_place, key=lambda place: (-by_place[place], place))[:WORST]


def _units(log: Log) -> dict[str, Float[np.ndarray, " units"]]:
    seen = [w.z for w in log.windows.values() if len(w.z.count)]
    if not seen:
        return {}
    known = np.concatenate([z.count > 0 for z in seen])
    mean = np.concatenate([z.mean for z in seen])[known]
    sd = np.concatenate([z.sd for z in seen])[known]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "effective bias": mean,
            "sd": sd,
            "bias over sd": np.where(sd > 0, np.abs(mean) / sd, np.nan),
        }


def _shares(log: Log) -> dict[str, float]:
    seen = [w.z for w in log.windows.values() if len(w.z.count)]
    if not seen:
        return {}
    known = np.concatenate([z.count > 0 for z in seen])
    low = np.concatenate([z.low for z in seen])[known]
    high = np.concatenate([z.high for z in seen])[known]
    broken = np.concatenate([z.nonfinite > 0 for z in seen])
    found = {"units/not finite": float(broken.mean())}
    if known.any():
        found["units/never positive"] = float((high <= 0).mean())
        found["units/always positive"] = float((low > 0).mean())
    return found


def _quantiles(name: str, values: Float[np.ndarray, " n"]) -> dict[str, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    found = np.quantile(known, list(QUANTILES.values()))
    return {f"{name}/{q}": float(v) for q, v in zip(QUANTILES, found, strict=True)}
