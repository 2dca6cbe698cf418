"""PB210: a few huge, constant activations that act as a bias."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from plumbob.rule import rule
from plumbob.types import Finding, Moments, Needs, Remedy, Severity, Site, Survey


@rule("PB210", "implicit-bias", Needs.ACTIVATIONS, Severity.INFO, since="0.1")
def implicit_bias(
    survey: Survey,
    *,
    times_above: float = 1000.0,
    constant_above: float = 0.8,
    few_below: float = 0.05,
) -> Iterator[Finding]:
    """A few coordinates are a thousand times the usual size and hardly vary.

    Why:
        Attention and gated layers without biases have no constant to add. Large models
        make one: a few coordinates of the residual stream grow far beyond all others,
        at the first token or a delimiter, to all but one value for every input. Norms
        scale the rest by them, and queries that have nothing to look for look there
        (attention sinks). They act as a bias and a model that has them needs them:
        set to 0 they break it, set to their mean they do not. It is harmless to
        training but for two things: 16-bit sums and 8-bit formats spend their range on
        them.

    Evidence:
        coordinates of `width`: how many are so; at: the one with the largest value;
        largest: its extreme; usual: the median over coordinates of the root mean
        square; times: largest / usual.
        constant: E[x^2] / (|E[x]| largest), which is 1 exactly where a coordinate takes
        one value and 0, as at one token and at no other; positions = E[x]^2 / E[x^2],
        the share of the positions where it takes it.
        places: sites at which this is seen.

    Args:
        times_above: as Sun et al. have it.
        constant_above: how close to one value the coordinate must be.
        few_below: share of the coordinates; more of them are just a wide scale.

    Remedy:
        By hand, if at all: keep these coordinates in float32 or their own scale where
        you quantise, and do not clip or prune them. In the next model give attention
        something to look at: an explicit key and value that are learned, or register
        tokens.

    Allow when:
        Always; it tells how a model without biases gets one.

    Example:
        >>> from nets_activations import implicit_bias
        >>> from netting import codes
        >>> leans, plumb = (codes(implicit_bias(leans=on)) for on in (True, False))
        >>> "PB210" in leans, "PB210" in plumb
        (True, False)

    References:
        Sun, Chen, Kolter and Liu (2024), Massive activations in large language models,
        sections 2 to 4. Xiao, Tian, Chen, Han and Lewis (2024), Efficient streaming
        language models with attention sinks.
    """
    found: list[tuple[float, Site, Moments, Bool[np.ndarray, " width"]]] = []
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        if reading is None or site.is_output:
            continue
        seen = [reading.z] if site.ends_residual else []
        seen += [] if site.reads_input else [reading.x]
        for m in filter(None, seen):
            massive, times = _massive(m, times_above, constant_above)
            if 0 < massive.mean() <= few_below:
                found.append((times, site, m, massive))
    if not found:
        return
    times, site, m, massive = max(found, key=lambda one: one[0])
    square = m.mean**2 + m.var
    large = np.where(massive, np.maximum(np.abs(m.low), np.abs(m.high)), 0)
    at = int(large.argmax())
    yield Finding(
        site=site.name,
        message="{coordinates} of {width} coordinates {coordinates:is|are} up to "
        "{times:,.0f} times the usual size and all but constant (coordinate {at}: "
        "{largest} where the others are {usual})",
        cause="they act as a bias: the same value at {positions:.1%} of all positions, "
        "whatever the input; seen at {places} {places:site|sites}",
        evidence={
            "coordinates": int(massive.sum()),
            "width": len(massive),
            "at": at,
            "largest": float(large[at]),
            "usual": float(np.median(np.sqrt(square))),
            "times": times,
            "constant": float(square[at] / abs(m.mean[at]) / large[at]),
            "positions": float(m.mean[at] ** 2 / square[at]),
            "places": len({s.name for _, s, _, _ in found}),
        },
        remedy=Remedy(
            advice="Leave them, but keep these coordinates in a wider format where you "
            "quantise."
        ),
    )


def _massive(
    m: Moments, times_above: float, constant_above: float
) -> tuple[Bool[np.ndarray, " width"], float]:
    """Return which coordinates are huge and constant, and how huge the largest is."""
    square = m.mean**2 + m.var
    usual = float(np.median(np.sqrt(square)))
    if not 0 < usual < np.inf or m.nonfinite.any():
        return np.zeros(len(square), bool), 0.0
    large = np.maximum(np.abs(m.low), np.abs(m.high))
    massive = large >= times_above * usual
    massive &= square >= constant_above * np.abs(m.mean) * large
    massive &= m.mean != 0
    return massive, float(np.where(massive, large, 0).max() / usual)
