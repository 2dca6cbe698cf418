"""PB307: the group means of a bias, which group norm removes."""

from collections.abc import Iterator

from plumbob.remedies import by_fix, drop_bias
from plumbob.rule import by_parameter, loose, proved, rule, told
from plumbob.types import Finding, Needs, Severity, Survey


@rule("PB307", "group-mean-before-group-norm", Needs.GRAPH, Severity.INFO, since="0.1")
def group_mean_before_group_norm(survey: Survey) -> Iterator[Finding]:
    """Group norm subtracts each group's mean: one number per group of a bias is lost.

    Why:
        The mean is taken over the channels of a group and all positions, so what is
        added to all channels of one group goes with it. Of C channels in G groups, G
        directions of the bias are lost and C - G count: with one group it is one, as
        before a layer norm, and with as many groups as channels it is the whole bias,
        as before an instance norm.

    Evidence:
        directions: how many independent moves of the bias nothing sees; elements: of
        how many values; largest: the largest |b|; error: the largest relative change
        of the output in the randomised test in float64 (not there if it could not be
        run).

    Remedy:
        Where all is lost, build the layer with bias=False. Else leave it, or centre the
        bias within each group before comparing models. `plumbob fix` does either
        (`plumbob.apply` the first, without data). What is centred already is not
        reported, nor rows that are 0 for good.

    Allow when:
        You do not compare, merge or average the parameters of models.

    Example:
        >>> from nets_redundancy import group_mean_before_group_norm as case
        >>> from netting import codes
        >>> "PB307" in codes(case(leans=True)), "PB307" in codes(case(leans=False))
        (True, False)

    References:
        Wu and He (2018), Group normalization, section 3.1.
    """
    ended = (p for p in loose(survey) if p.by == "group-norm")
    for parameter, proofs in by_parameter(ended).items():
        numbers = proved(survey, proofs)
        numbers["directions"] = sum(p.directions for p in proofs)
        tensor = survey.tensors.get(parameter)
        count = tensor.count if tensor else None
        whole = numbers["directions"] == count and all(
            (p.training, p.inference, p.on_this_path) == ("null", "null", False)
            for p in proofs
        )
        advice = (
            "Leave it, or centre the bias within each group before you compare, merge "
            "or average models {fix}."
        )
        if whole:
            advice = "Build this layer with bias=False {fix}."
        remedy = by_fix(survey, advice, "PB307", proofs)
        yield Finding(
            site=parameter,
            message="group norm removes {directions} "
            "{directions:direction|directions} of the {elements} "
            "{elements:element|elements} of this bias",
            cause="it subtracts the mean of each group of channels, and what these "
            "share with it",
            evidence=numbers,
            remedy=drop_bias(survey, parameter, remedy) if whole else remedy,
            steps=told(proofs),
        )
