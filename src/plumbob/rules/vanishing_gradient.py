"""PB401: the gradient is lost on its way back to the first maps of a chain."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite

from plumbob.paths import chains
from plumbob.progress import in_proportion, learnt
from plumbob.remedies import draw_chain
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Signals, Site, Stage, Survey

SMALL_HEAD = 0.1  # of the head's own: a head that lets less back was begun near 0


@rule(
    "PB401",
    "vanishing-gradient",
    Needs.SIGNALS,
    Severity.WARNING,
    since="0.1",
    explains=("PB404", "PB702", "PB711", "PB718"),
)
def vanishing_gradient(
    survey: Survey,
    *,
    sgd_below: float = 0.005,
    below: float = 2e-4,
    growth_below: float = 10.0,
    learnt_below: float = 0.1,
) -> Iterator[Finding]:
    """Little of the gradient comes back to the first maps, and nothing is learnt.

    Why:
        dL/dz shrinks at every map with the weights it passes and the slopes of the
        activations before it. Plain SGD moves the first maps by as much less. An
        optimiser that divides by the gradient's size does not, until the gradient
        falls below the eps that it divides by, or to where rounding made it; but the
        same product shrinks the signal on its way forward, so that the last maps have
        little to tell inputs apart by. A gradient that has vanished is a fault only
        where there is still something to learn: a net at the floor of its loss has
        none left to send. And a factor that begins at 0 on purpose (a residual end,
        LoRA's second) lets it through after a step: so a small gradient is looked at
        again after a few steps of the user's optimiser on a copy.

        Only chains without a norm or a residual sum are judged, from the first map
        to the last; a last map that lets less than a tenth of its own back is left
        out, as one begun near 0 on purpose. Exactly 0 is a note: units that never
        fire and maps of zeros do that, for which other rules have the cause.

    Evidence:
        ratio: norm of dL/dz at the site over that at a later map, maps further on,
        generous to convolutions whose positions are summed up or averaged later;
        later: the same after steps steps on a copy; gradient: the norm at the site;
        learnt: the share of what the best constant leaves that the loss has gained.

    Args:
        sgd_below: ratio below which a plain SGD is told of (with others a note).
            As measured for PB104, whose product this is: momentum needs 2 : 8 epochs
            at 0.011, SGD and momentum none of 25 at 8e-4.
        below: the same for any optimiser: Adam needed 3 : 6 to 11 epochs at 8e-4,
            3 : 14 at 5e-5, none of 25 with sigmoid from 4e-4 down.
        growth_below: how many times as large the ratio may be on the copy and still
            count as vanished: a factor begun at 0 grows without bound, a vanished
            gradient by less than 2 in what was measured.
        learnt_below: share learnt from which training evidently works.

    Remedy:
        Draw the chain with the gain that its activations need (`plumbob.apply` does,
        to maps that nothing else uses), or put norms or residual sums between them;
        sigmoid is best exchanged inside a net.

    Allow when:
        The first maps are to stay as they are.

    Example:
        >>> from netting import codes
        >>> from nets_gradients import vanishing_gradient
        >>> codes(vanishing_gradient(leans=True)) >= {'PB401'}
        True
        >>> codes(vanishing_gradient(leans=False))
        set()

    References:
        S. Hochreiter (1998), The vanishing gradient problem during learning recurrent
        neural nets. X. Glorot and Y. Bengio (2010), Understanding the difficulty of
        training deep feedforward neural networks, section 4.2.
    """
    found = survey.signals
    assert found is not None
    progress = learnt(survey)
    if progress is not None and progress >= learnt_below:
        return
    for chain in chains(survey.sites):
        worst = _worst(chain, found.gradients, found)
        if worst is None or worst[0] >= sgd_below:
            continue
        ratio, first, last = worst
        evidence: dict[str, int | float] = {
            "ratio": ratio,
            "maps": last - first,
            "gradient": found.gradients[chain[first].name],
        }
        if progress is not None:
            evidence["learnt"] = progress
        if found.later:
            later = _ratio(chain, first, last, found.later, found)
            if later is None or later >= sgd_below or later > growth_below * ratio:
                continue
            evidence |= {"later": later, "steps": found.steps}
        stuck = progress is not None or all(s.stage is Stage.INIT for s in chain)
        fault = stuck and ratio > 0 and (ratio < below or in_proportion(survey))
        fault &= not found.not_repeated
        again = "" if not found.later else " (and {later:.2g} after {steps} steps)"
        yield Finding(
            site=chain[first].name,
            message="{ratio:.2g} of the gradient is left here, {maps} "
            f"{{maps:map|maps}} before {chain[last].name!r}" + again,
            cause="the maps and activations between shrink it at each step"
            if ratio > 0
            else "nothing comes back: zero weights, dead units, or a gradient too "
            "small for its dtype",
            evidence=evidence,
            severity=Severity.WARNING if fault else Severity.INFO,
            remedy=draw_chain(
                survey,
                chain,
                "Draw the chain's weights with variance 1 / (fan_in E[phi'^2]) of the "
                "activation that each map reads, or put norms or residual sums "
                "between the maps, or activations that are not flat.",
            ),
        )


def _worst(
    chain: Sequence[Site], sizes: Mapping[str, float], found: Signals
) -> tuple[float, int, int] | None:
    """Return the smallest ratio along a chain, and between which maps."""
    last = len(chain) - 1
    if chain[-1].is_output:
        head = _ratio(chain, last - 1, last, sizes, found)
        last -= head is not None and head < SMALL_HEAD
    ratios = [
        (ratio, i, j)
        for j in range(last + 1)
        for i in range(j)
        if (ratio := _ratio(chain, i, j, sizes, found)) is not None
    ]
    return min(ratios, default=None)


def _ratio(
    chain: Sequence[Site],
    early: int,
    late: int,
    sizes: Mapping[str, float],
    found: Signals,
) -> float | None:
    """Return how much of the gradient at a later map is left at an earlier one.

    An average over n positions divides the norm by sqrt(n), and the sum over them
    that the weights' gradient takes makes up for it.
    """
    a, b = chain[early].name, chain[late].name
    if not sizes.get(b) or not isfinite(sizes.get(a, inf) + sizes[b]):
        return None
    places = max(1.0, found.places.get(a, 1.0) / max(found.places.get(b, 1.0), 1e-9))
    return sizes[a] / sizes[b] * places**0.5
