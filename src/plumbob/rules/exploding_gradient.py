"""PB402: the gradient grows on its way back to the first maps of a chain."""

from collections.abc import Iterator, Sequence
from math import isfinite

from plumbob.paths import chains
from plumbob.progress import learnt
from plumbob.remedies import draw_chain
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Signals, Site, Stage, Survey


@rule(
    "PB402",
    "exploding-gradient",
    Needs.SIGNALS,
    Severity.WARNING,
    since="0.1",
    explains=("PB503",),
)
def exploding_gradient(
    survey: Survey, *, above: float = 30.0, learnt_below: float = 0.1
) -> Iterator[Finding]:
    """The gradient at the first maps is many times that at the last ones.

    Why:
        Gains above 1 at each map of a chain without a norm or a residual sum multiply,
        forward for the signal and backward for the gradient. No one learning rate then
        serves first and last maps: SGD overshoots at the first ones, or must creep.
        Optimisers that divide by the gradient's size still face outputs that a small
        step at the first maps throws far. Batch norms make a deep net's gradients grow
        too (by 1.2 a layer), which trains: their maps are not judged, nor is a net
        that has begun to learn.

    Evidence:
        ratio: norm of dL/dz at the site over that at a later map, maps further on
        (less what upsampling adds up); gradient: the norm at the site; learnt: the
        share of what the best constant leaves that the loss has gained.

    Args:
        above: ratio from which it is told. Digits, six ReLU layers of 48, epochs to
            90 % against the right gain: SGD and momentum as fast at 11, and never at
            60; Adam 3 : 7 at 11, 3 : 12 at 60, 3 : 19 at 700. Set after seeing these.
        learnt_below: share learnt from which training evidently works.

    Remedy:
        Draw the chain with the gain that its activations need (`plumbob.apply` does,
        to maps that nothing else uses), or put norms between the maps; clipping the
        gradient's norm bounds the step, not the disproportion.

    Allow when:
        The last maps are meant to learn more slowly than the first.

    Example:
        >>> from netting import codes
        >>> from nets_gradients import exploding_gradient
        >>> codes(exploding_gradient(leans=True)) >= {'PB402'}
        True
        >>> codes(exploding_gradient(leans=False))
        set()

    References:
        R. Pascanu, T. Mikolov and Y. Bengio (2013), On the difficulty of training
        recurrent neural networks, section 2. G. Yang et al. (2019), A mean field
        theory of batch normalization.
    """
    found = survey.signals
    assert found is not None
    progress = learnt(survey)
    if progress is not None and progress >= learnt_below:
        return
    for chain in chains(survey.sites):
        worst = _worst(chain, found)
        if worst is None or worst[0] <= above:
            continue
        ratio, first, last = worst
        stuck = progress is not None or all(s.stage is Stage.INIT for s in chain)
        evidence: dict[str, int | float] = {
            "ratio": ratio,
            "maps": last - first,
            "gradient": found.gradients[chain[first].name],
        }
        if progress is not None:
            evidence["learnt"] = progress
        yield Finding(
            site=chain[first].name,
            message="the gradient here is {ratio:.3g} times that at "
            f"{chain[last].name}, {{maps}} maps further on",
            cause="the maps between multiply it: their weights are larger than their "
            "activations need",
            evidence=evidence,
            severity=Severity.WARNING if stuck else Severity.INFO,
            remedy=draw_chain(
                survey,
                chain,
                "Draw the chain's weights with variance 1 / (fan_in E[phi'^2]) of the "
                "activation that each map reads, or put norms between the maps.",
            ),
        )


def _worst(chain: Sequence[Site], found: Signals) -> tuple[float, int, int] | None:
    """Return the largest ratio along a chain, and between which maps."""
    sizes, places = found.gradients, found.places

    def ratio(early: str, late: str) -> float:
        summed = max(1.0, places.get(late, 1.0) / max(places.get(early, 1.0), 1e-9))
        return sizes[early] / sizes[late] / summed**0.5

    names = [site.name for site in chain]
    return max(
        (
            (ratio(a, b), i, j)
            for j, b in enumerate(names)
            for i, a in enumerate(names[:j])
            if sizes.get(a) and sizes.get(b) and isfinite(sizes[a] + sizes[b])
        ),
        default=None,
    )
