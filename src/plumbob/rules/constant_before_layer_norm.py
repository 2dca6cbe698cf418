"""PB305: a common constant of a vector, which layer norm removes."""

from collections.abc import Iterator

from plumbob.remedies import by_fix
from plumbob.rule import by_parameter, loose, proved, rule, told
from plumbob.types import Finding, Needs, Severity, Survey


@rule("PB305", "constant-before-layer-norm", Needs.GRAPH, Severity.INFO, since="0.1")
def constant_before_layer_norm(survey: Survey) -> Iterator[Finding]:
    """Layer norm subtracts the mean over the units, so one number added to all is lost.

    Why:
        (z + c) - mean(z + c) = z - mean(z): a bias b and b + c are one bias for
        whatever reads z through a layer norm. Only this one direction is lost; the
        bias as a whole is not, whatever is said of the shift of a norm. RMS norm
        does not subtract and loses nothing. On a residual stream that only layer norms
        read this holds of every bias that is written to it. The direction has no
        gradient, so it stays at what it was, or wanders by the rounding noise that
        Adam scales up; it takes digits in bfloat16 and makes norms of biases, distances
        of checkpoints and curvature count what is nothing.

    Evidence:
        directions: how many numbers can be added so, one for each run of elements that
        shares one; elements: of how many values; largest: the largest |b| of all;
        common: the mean of the parameter's values, which is the part that is lost
        where they are all meant; error: the largest relative change of the output in
        the randomised test in float64 (not there if it could not be run).

    Remedy:
        Leave it, or keep the mean of these values at 0 when comparing or averaging
        models: `plumbob fix` takes it away. What is centred already is not
        reported, but for zeros, which may only be how it starts.

    Allow when:
        You do not compare, merge or average the parameters of models.

    Example:
        >>> from nets_redundancy import constant_before_layer_norm as case
        >>> from netting import codes
        >>> "PB305" in codes(case(leans=True)), "PB305" in codes(case(leans=False))
        (True, False)

    References:
        Ba, Kiros and Hinton (2016), Layer normalization, section 5.1 (invariance to
        re-centring). Brody, Alon and Yahav (2023), On the expressivity role of
        LayerNorm in transformers' attention, section 2.
    """
    ended = (p for p in loose(survey) if p.by == "layer-norm")
    for parameter, proofs in by_parameter(ended).items():
        numbers = proved(survey, proofs)
        numbers["directions"] = sum(p.directions for p in proofs)
        tensor = survey.tensors.get(parameter)
        if tensor and tensor.count == numbers["elements"]:
            numbers["common"] = tensor.mean
        now = " (now {common})" if "common" in numbers else ""
        lost = f"one number added to all{now}"
        advice = (
            "Leave it, or centre these values before you compare, merge or average "
            "models {fix}."
        )
        if all(p.direction == "each" for p in proofs):
            lost = "each is the same for all units of the norm"
            advice = "Build this layer with bias=False {fix}."
        yield Finding(
            site=parameter,
            message="layer norm removes {directions} "
            "{directions:direction|directions} of these {elements} elements: " + lost,
            cause="it subtracts the mean over the units, and a common constant with it",
            evidence=numbers,
            remedy=by_fix(survey, advice, "PB305", proofs),
            steps=told(proofs),
        )
