"""PB301: a bias that the batch norm after it removes."""

from collections.abc import Iterator

from plumbob.remedies import by_fix, drop_bias
from plumbob.rule import loose, proved, rule
from plumbob.types import Finding, Needs, Proof, Remedy, Severity, Survey


@rule(
    "PB301",
    "bias-before-batch-norm",
    Needs.GRAPH,
    Severity.INFO,
    since="0.1",
)
def bias_before_batch_norm(survey: Survey) -> Iterator[Finding]:
    """Batch norm removes a bias before it: nothing in training depends on it.

    Why:
        Batch norm subtracts the mean of z = W x + b over the batch, and b is part of
        that mean: (z + d) - mean(z + d) = z - mean(z), whatever the d of each channel.
        The loss does not change with b, so its gradient is exactly 0 and what arrives
        instead is rounding noise, which Adam scales up to full steps: b wanders. In
        inference b and the running mean are one parameter, b - running_mean. It is
        harmless in float32; in bfloat16 a b that is large beside the spread of z costs
        digits of z. The shift is proved to end at the norm on every path through
        the graph, so a bias that anything else reads is not reported, nor one before
        a frozen norm, a dropout, an activation or a zero-padded convolution.

    Evidence:
        elements: how many values of the bias nothing sees; largest: the largest |b|
        among all of the parameter's values; error: the largest relative change of the
        output in the randomised test in float64 (not there if it could not be run).

    Remedy:
        Build the layer with bias=False. In a trained model subtract b from the norm's
        running mean when dropping it, else inference changes. `plumbob fix` does both
        and proves it; `plumbob.apply` too, without data, where the norm follows the map
        directly. Rows that are 0 for good, frozen or beside other rows that are not 0,
        are not reported.

    Allow when:
        The norm will be folded into the layer for inference, which needs the bias
        then; or the norm will be frozen for fine-tuning, where b counts again.

    Example:
        >>> from nets import bias_before_batch_norm, codes
        >>> case = bias_before_batch_norm
        >>> "PB301" in codes(case(leans=True)), "PB301" in codes(case(leans=False))
        (True, False)

    References:
        Ioffe and Szegedy (2015), Batch normalization, section 3.2 (the bias can be
        ignored, since its effect is cancelled by the mean subtraction).
    """
    for proof in loose(survey):
        whole = proof.by == "batch-norm" and proof.direction == "each"
        if not whole or proof.training != "null":
            continue
        yield Finding(
            site=proof.parameter,
            units=tuple(range(*proof.rows)),
            message="nothing in training sees the {elements} "
            "{elements:element|elements} of this bias",
            cause="batch norm subtracts the batch's mean, and the bias with it",
            evidence=proved(survey, [proof]),
            remedy=_remedy(survey, proof),
            steps=proof.steps,
        )


def _remedy(survey: Survey, proof: Proof) -> Remedy:
    remedy = by_fix(
        survey,
        "Build this layer with bias=False; in a trained model subtract the bias from "
        "the norm's running mean {fix}.",
        "PB301",
        [proof],
    )
    tensor = survey.tensors.get(proof.parameter)
    maps = {site.name for site in survey.sites if site.bias == proof.parameter}
    norms = [
        site.name
        for site in survey.sites
        if site.kind == "norm" and maps & set(site.fed_by)
    ]
    # what inference keeps of it must have one place to go to
    known = proof.inference == "null" or (
        proof.inference == "gauge"
        and len(norms) == 1
        and f"{norms[0]}.running_mean" in survey.tensors
        and all(s.norm == "batch-norm" for s in survey.sites if s.name in maps)
    )
    whole = tensor is not None and proof.rows == (0, tensor.count)
    if not (known and whole) or proof.on_this_path:
        return remedy
    norm = norms[0] if proof.inference == "gauge" else None
    return drop_bias(survey, proof.parameter, remedy, norm=norm)
