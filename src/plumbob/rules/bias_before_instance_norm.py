"""PB302: a bias that the instance norm after it removes."""

from collections.abc import Iterator

from plumbob.remedies import by_fix, drop_bias
from plumbob.rule import by_parameter, loose, proved, rule, told
from plumbob.types import Finding, Needs, Severity, Survey


@rule("PB302", "bias-before-instance-norm", Needs.GRAPH, Severity.INFO, since="0.1")
def bias_before_instance_norm(survey: Survey) -> Iterator[Finding]:
    """Instance norm removes a bias before it: nothing depends on it.

    Why:
        Instance norm subtracts from each channel of each image its own mean over the
        positions. A bias is the same at all of them, so it is part of that mean and
        goes with it, in training and in inference; a running mean, where the norm
        keeps one, follows it and can carry it. Its gradient is exactly 0; what arrives
        is rounding noise, which Adam scales up to full steps. A dropout, an activation
        or a zero-padded convolution between the two ends this, and then it is not
        reported: the shift is proved to end at the norm on every path through the
        graph.

    Evidence:
        elements: how many values of the bias nothing sees; largest: the largest |b|
        among all of the parameter's values; error: the largest relative change of the
        output in the randomised test in float64 (not there if it could not be run).

    Remedy:
        Build the layer with bias=False. `plumbob fix` takes the bias away and proves
        it; `plumbob.apply` does without data, where training and inference both ignore
        it. Rows that are 0 for good, frozen or beside other rows that are not 0, are
        not reported.

    Allow when:
        A checkpoint's layout asks for the parameter, or the norm will be taken out.

    Example:
        >>> from nets_redundancy import bias_before_instance_norm as case
        >>> from netting import codes
        >>> "PB302" in codes(case(leans=True)), "PB302" in codes(case(leans=False))
        (True, False)

    References:
        Ulyanov, Vedaldi and Lempitsky (2016), Instance normalization, equation 4.
    """
    ended = (p for p in loose(survey) if p.by == "instance-norm")
    for parameter, proofs in by_parameter(ended).items():
        tensor = survey.tensors.get(parameter)
        remedy = by_fix(
            survey, "Build this layer with bias=False {fix}.", "PB302", proofs
        )
        whole = tensor is not None and [p.rows for p in proofs] == [(0, tensor.count)]
        null = all(
            (p.training, p.inference, p.on_this_path) == ("null", "null", False)
            for p in proofs
        )
        yield Finding(
            site=parameter,
            units=tuple(unit for p in proofs for unit in range(*p.rows)),
            message="instance norm removes the {elements} "
            "{elements:element|elements} of this bias",
            cause="it subtracts each channel's mean over the positions, and the bias "
            "with it",
            evidence=proved(survey, proofs),
            remedy=drop_bias(survey, parameter, remedy) if whole and null else remedy,
            steps=told(proofs),
        )
