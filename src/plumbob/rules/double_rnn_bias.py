"""PB308: two biases of a recurrent cell, which are only ever added."""

from collections.abc import Iterator

from plumbob.remedies import by_fix
from plumbob.rule import by_parameter, loose, proved, rule, told
from plumbob.types import Finding, Needs, Severity, Survey


@rule("PB308", "double-rnn-bias", Needs.GRAPH, Severity.INFO, since="0.1")
def double_rnn_bias(survey: Survey) -> Iterator[Finding]:
    """A recurrent cell adds a bias to its input map and one to its hidden map.

    Why:
        z = W_ih x + b_ih + W_hh h + b_hh: only the sum of the two counts, so half of
        them is there because the library for graphics cards has it. Together they
        step twice as far as one bias at the same learning rate and are decayed half
        as much for the same sum, and an initial value meant for the bias, such as a
        forget gate's 1, is easily given twice. In torch's GRU the candidate's hidden
        bias stands inside the product with the reset gate and is no copy: only the
        reset and update gates are reported.

    Evidence:
        elements: how many values of this bias the other one can carry; largest: the
        largest |b| of the parameter; error: the largest relative change of the output
        in the randomised test in float64, the other bias carrying it (not there if it
        could not be run).

    Remedy:
        Add this bias to the other one, set it to 0 and freeze it there; `plumbob fix`
        does. In training the step on the sum is then half as long. Rows that are 0 for
        good, frozen or beside other rows that are not 0, are not reported.

    Allow when:
        The layout of the library's fused kernels asks for both, and nothing is read
        into either alone.

    Example:
        >>> from nets_redundancy import double_rnn_bias as case
        >>> from netting import codes
        >>> "PB308" in codes(case(leans=True)), "PB308" in codes(case(leans=False))
        (True, False)

    References:
        Hochreiter and Schmidhuber (1997), Long short-term memory, section 4 (one
        bias). Jozefowicz, Zaremba and Sutskever (2015), An empirical exploration of
        recurrent network architectures, section 2.2 (the forget gate's).
    """
    doubled = (p for p in loose(survey) if p.by == "rnn")
    for parameter, proofs in by_parameter(doubled).items():
        other = ", ".join(dict.fromkeys(name for p in proofs for name in p.carriers))
        yield Finding(
            site=parameter,
            units=tuple(unit for p in proofs for unit in range(*p.rows)),
            message="{elements} {elements:element|elements} of this bias "
            f"{{elements:is|are}} added to {other} and nothing else",
            cause="the cell adds the two biases, so that only their sum counts",
            evidence=proved(survey, proofs),
            remedy=by_fix(
                survey,
                "Add this bias to the other one, set it to 0 and freeze it {fix}.",
                "PB308",
                proofs,
            ),
            steps=told(proofs),
        )
