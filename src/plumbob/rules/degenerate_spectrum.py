"""PB108: a matrix that is all but of rank one."""

from collections.abc import Iterator

import numpy as np

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Stage, Survey


@rule("PB108", "degenerate-spectrum", Needs.SPECTRA, Severity.INFO, since="0.1")
def degenerate_spectrum(
    survey: Survey, *, rank_below: float = 1.25
) -> Iterator[Finding]:
    """One direction holds nearly all of a trained layer's weights.

    Why:
        W x = sum of s_k u_k (v_k . x) over singular values s_k. Where the first holds
        nearly all, units that should see many things see one, v_1 . x, and differ by
        a factor only. A gradient that has pushed all units the same way for long
        does that: an input that is not centred, a learning rate too high, an output
        whose bias is missing. It need not cost: where v_1 . x is the same for all
        inputs the direction is no more than a bias, and the rest may do the work, so
        this is info; what it does to the data is told by PB201 to PB211.

    Evidence:
        stable_rank: |W|_F^2 / s_1^2, at least 1 (rank one) and at most `side`, the
        smaller side of W; an upper limit, since s_1 (top, found by Lanczos) can only be
        too small. residual: some eigenvalue of W'W lies within it of top^2.
        held: s_1^2 / |W|_F^2, the share that one direction holds. rest: the root mean
        square over all entries of what is left without it.

    Args:
        rank_below: stable rank below which a layer is told of: at 1.25 one direction
            holds four fifths. A random matrix n x n has n / 4; projections to queries
            and keys of small healthy transformers were seen to come down to 1.4.

    Remedy:
        By hand: look at z of this layer (`plumbob look`), where
        `view[site].spectrum()` has all singular values; centre its input, lower the
        learning rate, or take the layer out if rank one is all that it needs.

    Allow when:
        The layer is a projection on one number, written wide. Layers at stage init,
        embeddings, gates, convolutions in groups and matrices with a side below 8 are
        not judged, nor those whose units are one and the same (PB102, PB107).

    Example:
        >>> from nets_weights import degenerate_spectrum
        >>> from netting import codes
        >>> case = degenerate_spectrum
        >>> codes(case(leans=True)), codes(case(leans=False))
        ({'PB108'}, set())

    References:
        Rudelson and Vershynin (2007), Sampling from large matrices: an approach through
        geometric functional analysis (stable rank). Golub and Kahan (1965),
        Calculating the singular values and pseudo-inverse of a matrix.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        spectrum = reading.spectrum if reading else None
        if (
            reading is None
            or spectrum is None
            or reading.rows is None
            or not spectrum.top
            or site.stage is Stage.INIT
            or site.gates
            or len(np.unique(reading.rows.twin)) < site.out / 2
            or spectrum.stable_rank >= rank_below
        ):
            continue
        rest = max(spectrum.frobenius**2 - spectrum.top**2, 0.0)
        yield Finding(
            site=site.name,
            message="one direction holds {held:.0%} of the squares of the weights: the "
            "stable rank is {stable_rank:.3g} of at most {side}",
            cause="the largest singular value is {top} (residual {residual:.2g}), "
            "where |W|_F = {frobenius}; without it the weights' root mean square is "
            "{rest}",
            evidence={
                "stable_rank": spectrum.stable_rank,
                "side": min(site.out, site.fan_in),
                "held": 1 / spectrum.stable_rank,
                "top": spectrum.top,
                "residual": spectrum.residual,
                "frobenius": spectrum.frobenius,
                "rest": float(np.sqrt(rest / site.out / site.fan_in)),
            },
            remedy=Remedy(
                advice="Look at what this layer gives on data; centre what it reads "
                "and lower the learning rate if its units all say the same."
            ),
        )
