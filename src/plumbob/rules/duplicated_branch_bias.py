"""PB313: biases of branches that are summed."""

from collections.abc import Iterator

from plumbob.remedies import by_fix
from plumbob.rule import by_parameter, loose, modules, proved, rule, told
from plumbob.types import Finding, Needs, Severity, Survey

NORMS = {"layer_norm", "native_layer_norm"}


@rule("PB313", "duplicated-branch-bias", Needs.GRAPH, Severity.INFO, since="0.1")
def duplicated_branch_bias(survey: Survey) -> Iterator[Finding]:
    """Branches that are summed have a bias each, where one says it all.

    Why:
        W x + b + V y + c: only b + c counts. The sum steps as many times as far as
        one bias would at the same learning rate, each part is decayed, and the size
        of none of them says anything. What lies between a bias and the sum and is not
        affine (an activation, a drop of the branch in training) ends this, and then
        it is not reported.

    Evidence:
        elements: how many values of this bias the others can carry; largest: its
        largest |b|; error: the largest relative change of the output in the randomised
        test in float64, the others carrying it (not there if it could not be run).

    Remedy:
        Add this bias to the other branch's and build its layer with bias=False;
        `plumbob fix` does. In training the step on the sum is then shorter. Rows that
        are 0 for good, frozen or beside other rows that are not 0, are not reported.

    Allow when:
        A branch is also used alone, or a checkpoint's layout asks for the biases.

    Example:
        >>> from nets_redundancy import duplicated_branch_bias as case
        >>> from netting import codes
        >>> "PB313" in codes(case(leans=True)), "PB313" in codes(case(leans=False))
        (True, False)

    References:
        He, Zhang, Ren and Sun (2016), Identity mappings in deep residual networks,
        section 2 (sums of branches).
    """
    carried = (
        p
        for p in loose(survey)
        if p.by == "bias"
        and p.direction == "each"
        and "gauge" in {p.training, p.inference}
        and "add" in p.through
        and not {"map", "attention"} & set(p.through)
        and p.source not in NORMS
    )
    for parameter, proofs in by_parameter(carried).items():
        carriers = [name for p in proofs for name in p.carriers]
        yield Finding(
            site=parameter,
            units=tuple(unit for p in proofs for unit in range(*p.rows)),
            message="{elements} {elements:element|elements} of this bias "
            f"{{elements:is|are}} added to the bias of {modules(carriers)}",
            cause="the branches are summed, so that only the sum of their biases "
            "counts",
            evidence=proved(survey, proofs),
            remedy=by_fix(
                survey,
                "Add this bias to that of the other branch and build its layer with "
                "bias=False {fix}.",
                "PB313",
                proofs,
            ),
            steps=told(proofs),
        )
