"""PB304: a value bias, which the bias after the heads can carry."""

from collections.abc import Iterator

from plumbob.remedies import by_fix
from plumbob.rule import by_parameter, loose, modules, proved, rule, told
from plumbob.types import Finding, Needs, Severity, Survey

NORMS = {"layer_norm", "native_layer_norm", "batch_norm", "group_norm"}


@rule("PB304", "value-bias", Needs.GRAPH, Severity.INFO, since="0.1")
def value_bias(survey: Survey) -> Iterator[Finding]:
    """The weights of attention sum to one, so a value bias is an output bias twice.

    Why:
        Every value is moved by the same b_v, and an average of moved values is moved
        by b_v: after the output projection W_o that is W_o b_v, the same for every
        input, which the projection's own bias can carry. The two biases are one bias
        written as a sum, and training only ever determines the sum: in a trained
        sentence encoder the two halves were found to cancel (cosine -0.4 to -0.9), so
        the size of either says nothing. Dropout of the weights, a mask after the
        softmax, a row that is masked as a whole, keys without values (sinks) and
        sigmoid or linear attention break it, and then it is not reported.

    Evidence:
        elements: how many values of the parameter the other bias can carry; largest:
        the largest |b| among all of the parameter's values; error: the largest
        relative change of the output in the randomised test in float64, the other
        bias carrying it (not there if it could not be run).

    Remedy:
        Add W_o b_v to the bias of the output projection and build the value projection
        without a bias; `plumbob fix` does it, for inference: under weight decay or with
        dropout on the attention the two forms train differently. Rows that are 0 for
        good, frozen or beside other rows that are not 0, are not reported.

    Allow when:
        The attention weights are dropped in training, where the value bias is noise
        that the output bias is not; or a checkpoint's layout asks for it.

    Example:
        >>> from nets_redundancy import value_bias as case
        >>> from netting import codes
        >>> "PB304" in codes(case(leans=True)), "PB304" in codes(case(leans=False))
        (True, False)

    References:
        Elhage et al. (2021), A mathematical framework for transformer circuits,
        section "Attention heads are independent and additive".
    """
    carried = (
        p
        for p in loose(survey)
        if p.direction == "each"
        and "gauge" in {p.training, p.inference}
        and "attention" in p.through
        and p.source not in NORMS
    )
    for parameter, proofs in by_parameter(carried).items():
        carriers = [name for p in proofs for name in p.carriers]
        yield Finding(
            site=parameter,
            units=tuple(unit for p in proofs for unit in range(*p.rows)),
            message="{elements} {elements:value bias is|value biases are} carried as "
            f"well by {modules(carriers)}",
            cause="the weights of attention sum to one, so a bias of the values "
            "arrives after it as one constant vector",
            evidence=proved(survey, proofs),
            remedy=by_fix(
                survey,
                "Add W b of the value bias to the bias of the output projection and "
                "build the values without a bias {fix}.",
                "PB304",
                proofs,
            ),
            steps=told(proofs),
        )
