"""PB311: a bias that the weights of a constant input can do without."""

from collections.abc import Iterator

import numpy as np

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule("PB311", "bias-in-input-span", Needs.ACTIVATIONS, Severity.INFO, since="0.1")
def bias_in_input_span(
    survey: Survey, *, weight_above: float = 1e-6
) -> Iterator[Finding]:
    """Some inputs always add up to one number, so their weights hold a second bias.

    Why:
        Where x.a = 1 for every input, adding c a to a row of W and taking c off b
        changes nothing: a column of ones is a bias, and so are the columns of a
        one-hot code, or shares that sum to one, taken together. Weights and bias then
        share one number that the data cannot tell apart; in statistics it is the
        dummy variable trap. Under gradient descent it is harmless (the sum only steps
        farther); weights and biases read one by one mean nothing, and the curvature
        has an exact zero for each unit. It was looked for in the first batch, by
        least squares over at least twice as many rows as columns, and only for maps
        that read rows of the input unchanged: a mean that the model takes off first
        takes the constant off.

    Evidence:
        columns of inputs: how many have a part in the sum; units: biases that are
        doubled by it; norm: |a|.

    Args:
        weight_above: the size of an element of a, beside the largest, from which a
            column has a part; below it is rounding of float32.

    Remedy:
        Build the map with bias=False, or leave out the constant column, or one of the
        categories. By hand: the first changes what is regularised.

    Allow when:
        Categories are meant to be read alike, none as the reference; or other batches
        hold inputs for which the sum is another.

    Example:
        >>> from nets_redundancy import bias_in_input_span as case
        >>> from netting import codes
        >>> "PB311" in codes(case(leans=True)), "PB311" in codes(case(leans=False))
        (True, False)

    References:
        Suits (1957), Use of dummy variables in regression equations, section 2.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        if reading is None or reading.ones is None or site.bias is None:
            continue
        size = np.abs(reading.ones)
        yield Finding(
            site=site.name,
            message="{columns} of {inputs} {inputs:input|inputs} add up to a constant, "
            "so the weights hold the {units} {units:bias|biases} a second time",
            cause="there is an a with x.a = 1 for every input seen (|a| = {norm})",
            evidence={
                "columns": int((size > weight_above * size.max()).sum()),
                "inputs": len(size),
                "units": site.out,
                "norm": float(np.linalg.norm(size)),
            },
            remedy=Remedy(
                advice="Build the map with bias=False, or leave out the constant "
                "column, or one of the categories."
            ),
            steps=(
                "in training and in inference a gauge: W + c a' and b - c are the "
                "same map on these inputs",
            ),
        )
