"""PB102: most units of a layer are one and the same unit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int

from plumbob.remedies import layout, own_weight
from plumbob.rule import rule
from plumbob.types import (
    Finding,
    Needs,
    Remedy,
    Rows,
    Safety,
    Severity,
    Site,
    Survey,
)


@rule(
    "PB102",
    "symmetric-units",
    Needs.WEIGHTS,
    Severity.ERROR,
    since="0.1",
    explains=(
        "PB103",
        "PB107",
        "PB201",
        "PB202",
        "PB204",
        "PB401",
        "PB404",
        "PB702",
        "PB711",
        "PB718",
    ),
)
def symmetric_units(survey: Survey, *, share_above: float = 0.5) -> Iterator[Finding]:
    """Most units of a layer have the same weights and bias, so they stay one unit.

    Why:
        Units with equal rows and biases [w; b] have equal z on every input; read by
        equal weights, they also receive equal gradients. Every optimiser that treats
        equal coordinates alike keeps them equal: the layer has the width of its
        distinct units for ever. Zero as such is no fault: a zero bias, last layer,
        residual end or LoRA factor has neighbours that differ and are told apart at
        the first step. So where the readers are known, both sides must be equal, and
        it is an error. Where they are not, rows that are equal and not zero are a
        warning: at random readers the first step parts them, and what is left is a
        start as from one unit.

    Evidence:
        alike of units: how many are bit for bit the same unit; share of the layer.
        distinct: how many different units there are.
        readers_known: 1 where the weights that read them were compared too.

    Args:
        share_above: share of the layer that is one unit. A few equal units cost
            their own number and no more; above a half, the layer has fewer
            different units than one half as wide. No random initialiser comes near:
            the chance of one equal pair is about units^2 2^-24 per weight in a row.

    Remedy:
        Draw the weights anew from a random initialiser with a variance set by
        fan_in (`plumbob.apply` does, by He's scheme for the activation that follows);
        only biases, last layers and residual ends may start at zero.

    Allow when:
        The rows were tied on purpose, such as a fixed average that is never trained.

    Example:
        >>> from nets import codes, symmetric_units
        >>> codes(symmetric_units(leans=True)), codes(symmetric_units(leans=False))
        ({'PB102'}, set())

    References:
        Rumelhart, Hinton and Williams (1986), Learning internal representations by
        error propagation, section "Symmetry breaking". Zhang, Dauphin and Ma (2019),
        Fixup initialization (zero residual ends are sound).
    """
    for site in survey.sites:
        rows = _rows(site, survey)
        if rows is None or not site.trainable or site.is_output or site.out < 2:
            continue
        units = _units(site, rows, survey)
        sizes = np.bincount(units)
        share = float(sizes.max() / site.out)
        if share <= share_above:
            continue
        known = rows.outgoing_twin is not None
        alike = tuple(int(j) for j in np.flatnonzero(units == sizes.argmax()))
        yield Finding(
            site=site.name,
            units=alike,
            message="{alike} of {units} units are one and the same unit ({share:.0%}; "
            "{distinct} distinct {distinct:unit|units} in all)",
            cause="rows and biases are equal bit for bit"
            + (
                ", and so are the weights that read them: their gradients are equal too"
                if known
                else ", as a constant initial value leaves them; what reads them is "
                "not known"
            ),
            evidence={
                "alike": int(sizes.max()),
                "units": site.out,
                "share": share,
                "distinct": int((sizes > 0).sum()),
                "readers_known": int(known),
            },
            remedy=_remedy(survey, site, alike),
            severity=Severity.ERROR if known else Severity.WARNING,
        )


def _remedy(survey: Survey, site: Site, alike: tuple[int, ...]) -> Remedy:
    advice = (
        "Draw these units' weights at random (variance set by fan_in); their biases "
        "may stay equal."
    )
    if not own_weight(survey, site):
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="redraw-units",
        arguments={"site": layout(site), "rows": alike},
    )


def _rows(site: Site, survey: Survey) -> Rows | None:
    if site.kind not in {"linear", "conv", "conv-transpose", "recurrent"}:
        return None
    reading = survey.readings.get(site.name)
    return reading.rows if reading else None


def _units(site: Site, rows: Rows, survey: Survey) -> Int[Any, " out"]:
    """Number the distinct units: equal numbers, equal units."""
    own = np.arange(site.out)
    keys = [rows.twin]
    if site.kind == "recurrent":  # a unit's row is spread over two weights
        name = site.weight
        other = (
            name.replace("_ih", "_hh") if "_ih" in name else name.replace("_hh", "_ih")
        )
        partner = next((s for s in survey.sites if s.weight == other), None)
        found = _rows(partner, survey) if partner else None
        if found is None or found.twin.size != site.out:
            return own
        keys.append(found.twin)
    if rows.outgoing_twin is not None:
        keys.append(rows.outgoing_twin)
    else:  # zero rows may be a last layer, a residual end, a factor that starts at 0
        keys.append(np.where(rows.norm == 0, own, 0))
    _, numbers = np.unique(np.stack(keys), axis=1, return_inverse=True)
    return numbers.reshape(-1)
