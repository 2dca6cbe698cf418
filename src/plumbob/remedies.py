"""Remedies that `plumbob.apply` or `plumbob fix` can follow, where the facts say so.

Each is by hand where the parameter is frozen, shared, or no parameter of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from plumbob.slopes import AT_ZERO, slope
from plumbob.types import Proof, Remedy, Safety, Site, Survey

DUST = 1e-6  # of the mean: a deviation that float32 makes of a constant
PASSED_BY = (
    "By hand: the model uses the layer's parameters outside the layer's own call."
)


def layout(site: Site) -> dict[str, Any]:
    """Return what an act must know of a site to find its units, as plain values."""
    fields = ("name", "kind", "out", "fan_in", "weight", "bias", "rows", "groups")
    return {name: getattr(site, name) for name in (*fields, "transposed", "activation")}


def own_weight(survey: Survey, site: Site) -> bool:
    """Return whether a site's weight may be written: trainable, and used only here."""
    tensor = survey.tensors.get(site.weight)
    return bool(tensor and tensor.trainable) and not (
        site.tied or _shared(survey, site, "weight")
    )


def own_bias(survey: Survey, site: Site) -> tuple[str, int] | None:
    """Return the bias of a site and where in it the site's units begin, or None."""
    tensor = survey.tensors.get(site.bias or "")
    if tensor is None or not tensor.trainable or _shared(survey, site, "bias"):
        return None
    if tensor.count == site.out:
        return site.bias or "", 0
    return (site.bias or "", site.rows[0]) if site.rows else None


def set_bias(
    survey: Survey,
    site: Site,
    advice: str,
    units: Bool[Any, " out"],
    values: Float[Any, " out"],
) -> Remedy:
    """Return the remedy that gives the bias of some units new values."""
    return _on_bias(survey, site, advice, units, "set-bias", "values", values)


def shift_bias(
    survey: Survey,
    site: Site,
    advice: str,
    units: Bool[Any, " out"],
    shift: Float[Any, " out"],
) -> Remedy:
    """Return the remedy that adds to the bias of some units."""
    return _on_bias(survey, site, advice, units, "shift-bias", "shift", shift)


def _on_bias(
    survey: Survey,
    site: Site,
    advice: str,
    units: Bool[Any, " out"],
    act: str,
    name: str,
    values: Float[Any, " out"],
) -> Remedy:
    place = own_bias(survey, site)
    if place is None or not units.any() or not np.isfinite(values[units]).all():
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act=act,
        arguments={
            "parameter": place[0],
            "units": tuple(place[1] + unit for unit in numbers(units)),
            name: tuple(float(values[unit]) for unit in numbers(units)),
        },
    )


def redraw(
    survey: Survey,
    site: Site,
    advice: str,
    *,
    rows: Bool[Any, " out"],
    columns: Bool[Any, " out"],
) -> Remedy:
    """Return the remedy that draws units as large as the others at random.

    `rows` are the units whose own weights are drawn, `columns` those whose readers'.
    """
    reading = survey.readings[site.name]
    assert reading.rows is not None
    others = reading.rows.norm[~rows & (reading.rows.norm > 0)]
    sd = float(np.sqrt((others**2).mean() / site.fan_in)) if len(others) else 0.0
    feeds = {feed.site for feed in site.feeds} if columns.any() else set[str]()
    readers = [s for s in survey.sites if s.name in feeds]
    if not (0 < sd < np.inf and all(own_weight(survey, s) for s in (site, *readers))):
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="redraw-units",
        arguments={
            "site": layout(site),
            "rows": numbers(rows),
            "sd": sd,
            "columns": numbers(columns),
            "readers": tuple(layout(reader) for reader in readers),
        },
    )


def centre(survey: Survey, site: Site, advice: str, *, keep: bool) -> Remedy:
    """Return the remedy that takes the mean of x out of a map, keeping its function.

    By hand where the layer's parameters are used outside its own call: the hook that
    centres x would not see it.
    """
    reading = survey.readings[site.name]
    first = site.weight.endswith(("weight_ih", "weight_ih_l0", "weight_ih_l0_reverse"))
    whole = site.kind in {"linear", "conv"} and not site.rows
    whole &= site.weight.rpartition(".")[2] == "weight"
    if (
        reading.x is None
        or not np.isfinite(reading.x.mean).all()
        or not (whole or (site.kind == "recurrent" and first))
        or (keep and site.bias and own_bias(survey, site) is None)
    ):
        return Remedy(advice=advice)
    if not reading.called:
        return Remedy(advice=f"{advice} {PASSED_BY}")
    return Remedy(
        advice=advice,
        safety=Safety.EXACT if keep else Safety.CHANGES_TRAINING,
        act="fold-centring",
        arguments={
            "site": site.name,
            "mean": tuple(float(value) for value in reading.x.mean),
            "keep": keep,
        },
    )


def standardise(survey: Survey, site: Site, advice: str) -> Remedy:
    """Return the remedy that lets a map see x with mean 0 and deviation 1.

    What never varied is taken to vary as the median feature does.
    """
    remedy = centre(survey, site, advice, keep=False)
    x = survey.readings[site.name].x
    if remedy.act is None or x is None or not np.isfinite(x.sd).all():
        return Remedy(advice=remedy.advice)
    varies = x.sd > DUST * np.abs(x.mean)
    if not varies.any():
        return Remedy(advice=advice)
    scale = np.where(varies, x.sd, np.median(x.sd[varies]))
    arguments = {**remedy.arguments, "scale": tuple(map(float, scale))}
    return replace(remedy, arguments=arguments)


def draw_chain(survey: Survey, chain: Sequence[Site], advice: str) -> Remedy:
    """Return the remedy that draws all maps of a chain with the gain that each needs.

    The first with that of its input's size, the others with that of the activation
    which they read.
    """
    reads = [None, *(site.activation for site in chain[:-1])]
    x = reading.x if (reading := survey.readings.get(chain[0].name)) else None
    size = float(np.sqrt((x.var + x.mean**2).mean())) if x is not None else 1.0
    sizes = [size, *(slope(name) for name in reads[1:])]
    if not (
        0 < size < np.inf
        and all(own_weight(survey, site) for site in chain)
        and all(own_bias(survey, site) for site in chain if site.bias)
    ):
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="draw-chain",
        arguments={
            "sites": tuple(layout(site) for site in chain),
            "sds": tuple(
                1 / (site.fan_in**0.5 * size)
                for site, size in zip(chain, sizes, strict=True)
            ),
            "offsets": tuple(AT_ZERO.get(name or "", 0.0) for name in reads),
        },
    )


def by_fix(
    survey: Survey, advice: str, code: str, proofs: Sequence[Proof] = ()
) -> Remedy:
    """Return the remedy that `plumbob fix` follows, as it needs the model and data.

    It stays by hand where a proof is of one recorded run, or of training alone, or
    zeros have no common part to take. `{fix}` in the advice stands for what is typed.
    """
    if any(
        p.on_this_path
        or not (p.inference or p.norm)
        or (p.direction != "each" and _all_zero(survey, p.parameter))
        for p in proofs
    ):
        return Remedy(advice=advice.replace(" {fix}", ""))
    exact = proofs and all(
        p.training == "null" and (p.inference == "null" or p.norm) for p in proofs
    )
    return Remedy(
        advice=advice.replace("{fix}", f"(plumbob fix --select {code})"),
        safety=Safety.EXACT if exact else Safety.EVAL_ONLY,
    )


def drop_bias(
    survey: Survey, parameter: str, otherwise: Remedy, *, norm: str | None = None
) -> Remedy:
    """Return the remedy that removes a bias which is proved to be null as a whole.

    A batch norm that keeps its mean, `norm`, gives the bias up. Without data it can be
    removed where a layer of its own has it; `otherwise` is what is to be done else.
    """
    maps = [site for site in survey.sites if site.bias == parameter]
    if (
        len(maps) != 1
        or maps[0].rows
        or maps[0].kind not in {"linear", "conv", "conv-transpose"}
        or (maps[0].kind == "linear" and maps[0].transposed)
        or own_bias(survey, maps[0]) is None
    ):
        return otherwise
    return Remedy(
        advice=otherwise.advice,
        safety=Safety.EXACT,
        act="drop-null-bias",
        arguments={"parameter": parameter} | ({"norm": norm} if norm else {}),
    )


def slower(survey: Survey, advice: str, share: float) -> Remedy:
    """Return the remedy that sets a share of each learning rate there is."""
    known = {site.weight for site in survey.sites} | set(survey.tensors)
    known |= set(survey.history.courses if survey.history else ())
    groups = survey.optimizer.groups if survey.optimizer else ()
    rates = {
        name: group.lr * share
        for group in groups
        if group.lr > 0
        and (name := next((p for p in group.parameters if p in known), None))
    }
    if not rates:
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="set-learning-rate",
        arguments={"parameters": tuple(rates), "rates": tuple(rates.values())},
    )


def _all_zero(survey: Survey, parameter: str) -> bool:
    tensor = survey.tensors.get(parameter)
    return tensor is not None and tensor.zeros == tensor.count


def numbers(units: Bool[Any, " out"]) -> tuple[int, ...]:
    """Return the numbers of the units that are meant."""
    return tuple(int(unit) for unit in np.flatnonzero(units))


def _shared(survey: Survey, site: Site, field: str) -> bool:
    """Return whether another site uses the same part of a weight or bias."""
    return any(
        other.name != site.name
        and getattr(other, field) == getattr(site, field)
        and not (other.rows and site.rows and other.rows != site.rows)
        for other in survey.sites
    )
