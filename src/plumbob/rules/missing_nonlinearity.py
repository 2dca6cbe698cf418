"""PB607: several maps in a row are one affine map, and the data are not affine."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Safety, Severity, Site, Survey


@rule(
    "PB607",
    "missing-nonlinearity",
    Needs.GRAPH | Needs.INPUTS,
    Severity.WARNING,
    since="0.1",
)
def missing_nonlinearity(
    survey: Survey, *, gain_above: float = 0.2, sure_above: float = 3.0
) -> Iterator[Finding]:
    """Nothing bends between the maps, but the targets bend with the inputs.

    Why:
        W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2): maps with nothing that bends
        between them are one map, however many there are, and no training makes more
        of them. That is no fault by itself: a linear autoencoder, a low-rank factor,
        a deep linear net on linear data are meant so. It is one where the data show
        that a bent function does clearly better than any affine one. So both are
        fitted to the samples, by means that need no training (ridge regression, the
        same with a Gaussian kernel), each sample judged by a fit without it and those
        beside it in the data. Of more than two classes an affine fit to shares says
        too little; where samples are windows of one another (pieces of one series) no
        fit is without them. Neither is judged, nor maps side by side, which a linear
        forecaster adds up on purpose.

    Evidence:
        maps: how many the longest way has. affine, smooth: the errors of the best
        affine and the smooth fit (mean squares in units of the targets' variance; of
        two classes the share in the wrong one); gain = 1 - smooth / affine; sure: the
        mean of their difference in standard errors of the means of
        blocks of samples; samples: that both were fitted to.

    Args:
        gain_above: share of the affine error that the smooth fit saves. A kernel
            that knows nothing of the data saves 0 to 0.1 where they are affine with
            noise, so a fifth is beyond its luck, and is lost for good.
        sure_above: standard errors: by chance five in a thousand, of 16 blocks.

    Remedy:
        Put an activation between the maps; `plumbob.apply` puts a ReLU behind the
        widest map that others read, where the model is a `nn.Sequential`.

    Allow when:
        The model must be affine, to be read or to be exported.

    Example:
        >>> from nets_inputs import missing_nonlinearity
        >>> from netting import codes
        >>> leans, plumb = (missing_nonlinearity(leans=b) for b in (True, False))
        >>> "PB607" in codes(leans), "PB607" in codes(plumb)
        (True, False)

    References:
        Leshno, Lin, Pinkus and Schocken (1993), Multilayer feedforward networks with
        a nonpolynomial activation function can approximate any function.
    """
    facts = survey.inputs
    assert facts is not None
    fits = facts.fits
    if fits is None or not facts.affine or facts.maps < 2 or not fits.affine > 0:
        return
    if fits.overlap:
        return
    targets = facts.targets
    if targets is None or not (targets.kind == "real" or targets.distinct == 2):
        return
    gain = 1 - fits.smooth / fits.affine
    if gain <= gain_above or fits.sure <= sure_above:
        return
    yield Finding(
        message="{maps} maps in a row are one affine map, and a smooth function saves "
        "{gain:.0%} of the error of the best affine one",
        cause="nothing bends between them",
        evidence={
            "maps": facts.maps,
            "affine": fits.affine,
            "smooth": fits.smooth,
            "gain": gain,
            "sure": fits.sure,
            "samples": fits.samples,
        },
        remedy=_remedy(survey),
    )


def _remedy(survey: Survey) -> Remedy:
    advice = "Put an activation, such as a ReLU, between the maps."
    inner = [site for site in survey.sites if site.feeds and _is_module(site)]
    if not inner:
        return Remedy(advice=advice)
    widest = max(inner, key=lambda site: site.out)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="set-activation",
        arguments={"module": widest.name, "activation": "relu"},
    )


def _is_module(site: Site) -> bool:
    """Return whether a site is the whole of a module inside a `nn.Sequential`."""
    whole = site.weight == f"{site.name}.weight" and not site.rows
    return whole and site.kind in {"linear", "conv", "conv-transpose"}
