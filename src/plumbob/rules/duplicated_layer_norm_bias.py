"""PB309: the shift of a layer norm, which the biases after it can carry."""

from collections.abc import Iterator

from plumbob.remedies import by_fix
from plumbob.rule import by_parameter, loose, modules, proved, rule, told
from plumbob.types import Finding, Needs, Severity, Survey


@rule("PB309", "duplicated-layer-norm-bias", Needs.GRAPH, Severity.INFO, since="0.1")
def duplicated_layer_norm_bias(survey: Survey) -> Iterator[Finding]:
    """The maps that read a layer norm have biases that can carry its shift.

    Why:
        W (g n + beta) + b = W g n + (b + W beta): where all readers of a layer norm
        are affine maps with biases of their own, its beta is in them a second time. In
        a post-norm transformer the sum of the residual reads it too; there the bias
        of the branch that is added can carry beta. It is a gauge, in training and in
        inference; the last norm before an output that is returned has no such reader,
        and its beta counts.

    Evidence:
        elements: how many values of beta others can carry; carriers: how many biases
        do it together; largest: the largest |beta|; error: the largest relative change
        of the output in the randomised test in float64, the others carrying it (not
        there if it could not be run).

    Remedy:
        Leave it; or add W beta to the biases of the readers and build the norm with
        bias=False; `plumbob fix` does, for inference: weight decay and the learning
        rate act on the two forms differently. Rows that are 0 for good, frozen or
        beside other rows that are not 0, are not reported.

    Allow when:
        Nothing is read into beta or these biases alone.

    Example:
        >>> from nets_redundancy import duplicated_layer_norm_bias as case
        >>> from netting import codes
        >>> "PB309" in codes(case(leans=True)), "PB309" in codes(case(leans=False))
        (True, False)

    References:
        Ba, Kiros and Hinton (2016), Layer normalization, section 3. Xu, Sun, Zhang,
        Zhao and Lin (2019), Understanding and improving layer normalization, section
        4 (without gain and bias it trains as well or better).
    """
    carried = (
        p
        for p in loose(survey)
        if p.source in {"layer_norm", "native_layer_norm"}
        and p.direction == "each"
        and "gauge" in {p.training, p.inference}
    )
    for parameter, proofs in by_parameter(carried).items():
        carriers = list(dict.fromkeys(name for p in proofs for name in p.carriers))
        yield Finding(
            site=parameter,
            message="the {elements} {elements:element|elements} of this norm's bias "
            f"{{elements:is|are}} carried as well by {modules(carriers)}",
            cause="all that reads the norm adds a bias of its own",
            evidence=proved(survey, proofs) | {"carriers": len(carriers)},
            remedy=by_fix(
                survey,
                "Leave it, or add W beta to the biases of the readers and build the "
                "norm with bias=False {fix}.",
                "PB309",
                proofs,
            ),
            steps=told(proofs),
        )
