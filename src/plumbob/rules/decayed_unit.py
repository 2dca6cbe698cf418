"""PB106: units that weight decay has worn away."""

from collections.abc import Iterator

import numpy as np

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Stage, Survey


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
        row_size, reader_size: the 95th percentiles of the layer, which are those of
        living units even where nine of ten have decayed, and no outlier's.

    Args:
        size_below: what counts as shrunk, as a share of the 95th percentile, on both
            sides. Together 1/32 * 1/32 = 2^-10: a contribution below what bfloat16
            (8 bits) keeps of a sum. A random row of n weights is so short with
            probability below 1e-3 for n = 3, and falling as 32^-n; its readers as
            rarely, and independently.
        share_above: share of decayed units above which it is a warning, else info:
            they do no more than dead ones (PB201), of which half cost nothing and
            nine tenths three times the epochs.

    Remedy:
        Look for why they got no gradient (PB201 before all); then lower the decay of
        this layer, or make it narrower.

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
        row_size = float(np.quantile(rows.norm, 0.95))
        reader_size = float(np.quantile(rows.outgoing, 0.95))
        decayed = (rows.norm < size_below * row_size) & (rows.norm > 0)
        decayed &= (rows.outgoing < size_below * reader_size) & (rows.outgoing > 0)
        share = float(decayed.mean())
        if not share:
            continue
        least = int(np.where(decayed, rows.norm * rows.outgoing, np.inf).argmin())
        yield Finding(
            site=site.name,
            units=tuple(int(j) for j in np.flatnonzero(decayed)),
            message="{decayed} of {units} units have all but vanished ({share:.1%}): "
            "unit {unit} has |w| = {row} and is read by {reader}, where the layer's "
            "strong units have {row_size} and {reader_size}",
            cause="no gradient held them up against the decay, on either side",
            evidence={
                "decayed": int(decayed.sum()),
                "units": site.out,
                "share": share,
                "unit": least,
                "row": float(rows.norm[least]),
                "reader": float(rows.outgoing[least]),
                "row_size": row_size,
                "reader_size": reader_size,
            },
            remedy=Remedy(
                advice="Find why these units get no gradient; then lower this layer's "
                "weight decay or its width."
            ),
            severity=Severity.WARNING if share > share_above else Severity.INFO,
        )
