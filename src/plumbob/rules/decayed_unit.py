"""PB106: units that weight decay has worn away."""

from collections.abc import Iterator

import numpy as np

from plumbob.remedies import redraw
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Site, Stage, Survey


@rule(
    "PB106",
    "decayed-unit",
    Needs.WEIGHTS | Needs.GRAPH,
    Severity.WARNING,
    since="0.1",
)
def decayed_unit(
    survey: Survey, *, size_below: float = 1 / 32, share_above: float = 0.9
) -> Iterator[Finding]:
    """Units whose row and whose readers have both shrunk to a trace of the layer's.

    Why:
        A unit adds W_next[:, j] f(w_j x + b_j) to the next map. Where the loss gives
        it no gradient (it is dead, or useless), decay alone moves it: each step
        multiplies w_j and W_next[:, j] by 1 - lr * decay, and both vanish together. A
        small row alone proves nothing (for a ReLU, w_j / c with c W_next[:, j] is the
        same function, and under a norm the size of w_j does not count), so both
        sides must be small.

    Evidence:
        decayed of units: how many; share of the layer.
        row, reader: |w_j| and |W_next[:, j]| of the smallest such unit;
        row_size, reader_size: the root mean squares over the layer, which the living
        units make: k of n leave sqrt(k / n) of their own size, an eighth where one
        of 64 lives, while any quantile is a decayed unit's once enough have decayed.
        One unit of outlying size passes for the only living one from 32 sqrt(n)
        times the others' size on, on both sides: 256 times in a layer of 64.
        weight_decay: the optimiser's largest on these weights and their readers' (not
        there where no optimiser is known).

    Args:
        size_below: what counts as shrunk, as a share of the root mean square, on both
            sides. Together 1/32 * 1/32 = 2^-10: a contribution below what bfloat16
            (8 bits) keeps of a sum. A random row of n weights is so short with
            probability below 1e-3 for n = 3, and falling as 32^-n; its readers as
            rarely, and independently.
        share_above: share of decayed units above which it is a warning, else info:
            they do no more than dead ones (PB201), of which half cost nothing and
            nine tenths three times the epochs.

    Remedy:
        Look for why they got no gradient (PB201 before all); then lower the decay of
        this layer, or make it narrower. To use the units again, draw both sides at
        random, as large as at the other units (`plumbob.apply` does). An optimiser that
        is known not to decay these weights is not to blame: then an earlier one, a
        penalty inside the loss, or the values as they were loaded.

    Allow when:
        The decay was meant to thin the layer out.

    Example:
        >>> from nets import codes, decayed_unit
        >>> codes(decayed_unit(leans=True)), codes(decayed_unit(leans=False))
        ({'PB106'}, set())

    References:
        Krogh and Hertz (1991), A simple weight decay can improve generalization.
        Mehta, Kim and Theobalt (2019), On implicit filter level sparsity in
        convolutional neural networks.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        rows = reading.rows if reading else None
        if rows is None or rows.outgoing is None or site.stage is Stage.INIT:
            continue
        if site.kind not in {"linear", "conv", "conv-transpose"}:
            continue
        if not (np.isfinite(rows.norm).all() and np.isfinite(rows.outgoing).all()):
            continue
        row_size = float(np.sqrt((rows.norm**2).mean()))
        reader_size = float(np.sqrt((rows.outgoing**2).mean()))
        decayed = (rows.norm < size_below * row_size) & (rows.norm > 0)
        decayed &= (rows.outgoing < size_below * reader_size) & (rows.outgoing > 0)
        share = float(decayed.mean())
        if not share:
            continue
        decay = _decay(site, survey)
        idle = decay == {"weight_decay": 0.0}
        least = int(np.where(decayed, rows.norm * rows.outgoing, np.inf).argmin())
        yield Finding(
            site=site.name,
            units=tuple(int(j) for j in np.flatnonzero(decayed)),
            message="{decayed} of {units} units {decayed:has|have} all but vanished "
            "({share:.1%}): unit {unit} has |w| = {row} and is read by {reader}, where "
            "the layer's root mean squares are {row_size} and {reader_size}",
            cause="they shrank on both sides, as under a decay without a gradient, but "
            "this optimiser does not decay them: it was an earlier one, a penalty in "
            "the loss, or they were loaded so"
            if idle
            else "no gradient held them up against the weight decay of {weight_decay}, "
            "on either side"
            if decay
            else "they shrank on both sides, as under a weight decay that no gradient "
            "holds up",
            evidence={
                "decayed": int(decayed.sum()),
                "units": site.out,
                "share": share,
                "unit": least,
                "row": float(rows.norm[least]),
                "reader": float(rows.outgoing[least]),
                "row_size": row_size,
                "reader_size": reader_size,
            }
            | decay,
            remedy=redraw(
                survey,
                site,
                (
                    "Find what shrank them and why they get no gradient"
                    if idle
                    else "Find why these units get no gradient and lower this layer's "
                    "weight decay"
                )
                + "; then draw their weights on both sides at random, as large as "
                "their neighbours', or make this layer narrower.",
                rows=decayed,
                columns=decayed,
            ),
            severity=Severity.WARNING if share > share_above else Severity.INFO,
        )


def _decay(site: Site, survey: Survey) -> dict[str, float]:
    """Return the optimiser's largest decay of a site's weights and their readers'."""
    if survey.optimizer is None:
        return {}
    near = {site.name} | {feed.site for feed in site.feeds}
    weights = {s.weight for s in survey.sites if s.name in near}
    decays = [
        group.weight_decay
        for group in survey.optimizer.groups
        if weights & set(group.parameters)
    ]
    return {"weight_decay": max(decays, default=0.0)}
