"""PB404: units that get hardly any gradient beside neighbours that do."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from plumbob.remedies import numbers, redraw
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Reading, Remedy, Severity, Site, Survey

NEVER = {"relu", "relu6"}


@rule("PB404", "starved-unit", Needs.GRADIENTS, Severity.INFO, since="0.1")
def starved_unit(
    survey: Survey, *, below: float = 1e-4, share_above: float = 0.1
) -> Iterator[Finding]:
    """Some units of a layer get hardly any gradient, though they give a signal.

    Why:
        A unit learns from what its readers send back. Where these read it by weights
        of nearly 0, or are themselves shut, it stays what it was drawn as while its
        neighbours learn: width that is paid for. It is worth knowing and no more: a
        mask, a dropped branch or a feature that these data do not have does the same
        on purpose, and a unit that gets nothing from this batch may from the next.
        So a layer of which all units get nothing (an expert that no sample was routed
        to) is not told of, nor rows of a table (words that do not occur), nor units
        of the output (classes that do not), nor ReLUs that never fire (PB201).

    Evidence:
        starved of units: those whose gradient, the norm of a row of dL/dW, is below
        the layer's median by `below`; share; median; unread: those of them whose
        outgoing weights are as far below the others'.

    Args:
        below: part of the layer's median. Gradients of one layer differ by tens, not
            by ten thousands.
        share_above: share of the layer from which it is told; fewer cost little.

    Remedy:
        Where nothing reads them, draw the weights that read them anew
        (`plumbob.apply` does); else find what shuts their readers.

    Allow when:
        A mask or a pruned structure is meant to switch them off.

    Example:
        >>> from netting import codes
        >>> from nets_gradients import starved_unit
        >>> codes(starved_unit(leans=True)) >= {'PB404'}
        True
        >>> 'PB404' in codes(starved_unit(leans=False))
        False

    References:
        U. Evci et al. (2022), GradMax: growing neural networks using gradient
        information, section 3 (zero outgoing weights stop the gradient).
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        if (
            site.kind not in {"linear", "conv", "conv-transpose"}
            or site.is_output
            or not site.trainable
            or reading is None
            or (sizes := reading.grad_weight) is None
            or not np.isfinite(sizes).all()
        ):
            continue
        median = float(np.median(sizes))
        starved = (sizes < below * median) & _gives(site, reading)
        share = float(starved.mean())
        if share <= share_above:
            continue
        unread = starved & _unread(reading, below)
        yield Finding(
            site=site.name,
            units=numbers(starved),
            message="{starved} of {units} units get less than {below:.0e} of the "
            "gradient that the others do",
            cause="{unread} of them {unread:is|are} read by weights of nearly 0"
            if unread.any()
            else "what reads them sends nothing back",
            evidence={
                "starved": int(starved.sum()),
                "units": site.out,
                "share": share,
                "below": below,
                "median": median,
                "unread": int(unread.sum()),
            },
            remedy=_remedy(survey, site, unread),
        )


def _gives(site: Site, reading: Reading) -> Bool[np.ndarray, " out"]:
    """Return the units that show their readers something that varies."""
    z = reading.z
    if z is None or len(z.count) != site.out:
        return np.ones(site.out, bool)
    fires = z.positive > 0 if site.activation in NEVER else np.ones(site.out, bool)
    return fires & (z.m2 > 0)


def _unread(reading: Reading, below: float) -> Bool[np.ndarray, " out"]:
    sizes = reading.rows.outgoing if reading.rows is not None else None
    if sizes is None:
        assert reading.grad_weight is not None
        return np.zeros(len(reading.grad_weight), bool)
    return sizes <= below * float(np.median(sizes))


def _remedy(survey: Survey, site: Site, unread: Bool[np.ndarray, " out"]) -> Remedy:
    if not unread.any():
        return Remedy(advice="Find what shuts the maps that read these units.")
    none = np.zeros(site.out, bool)
    advice = "Draw the weights that read these units anew."
    return redraw(survey, site, advice, rows=none, columns=unread)
