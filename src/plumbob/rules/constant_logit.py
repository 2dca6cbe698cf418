"""PB306: one number added to all logits, which softmax or the loss removes."""

from collections.abc import Iterator

from plumbob.remedies import by_fix
from plumbob.rule import by_parameter, loose, proved, rule, told
from plumbob.types import Finding, Needs, Remedy, Severity, Survey

ENDS = {
    "softmax": "softmax does not change when all its arguments grow by one number",
    "difference": "it is subtracted again, as a mean or as another value's part",
}
ADVICE = (
    "Leave it, or centre these values before you compare, merge or average models, or "
    "read one logit alone {fix}."
)


@rule("PB306", "constant-logit", Needs.GRAPH, Severity.INFO, since="0.1")
def constant_logit(survey: Survey) -> Iterator[Finding]:
    """Only differences of logits count: one number added to all of them is lost.

    Why:
        softmax(z + c) = softmax(z), so of the K numbers of a bias before a softmax, or
        before a cross-entropy of logits, K - 1 count; so too of every column of the
        weights. The same goes for what is only compared: the reward of a pair of
        answers, an advantage less its mean in a duelling head, a router over experts.
        The direction has no gradient; weight decay alone moves it. A sigmoid, a
        penalty on the logits' size (z-loss) or a soft cap keeps it, and then nothing
        is said. Where only the loss removes it, the logits that the model returns do
        change with it, and so does a threshold put on them.

    Evidence:
        directions: how many numbers are lost; elements: of how many values; largest:
        the largest |b|; common: the mean of the values, which is the part that is
        lost; error: the largest relative change of the output in the randomised test
        in float64 (not there if it could not be run, or if it is the loss, by its own
        values, that does not see it).

    Remedy:
        Leave it, or centre the biases (and the columns) before comparing, merging or
        averaging models, or reading one logit alone: `plumbob fix` does where the model
        itself removes the number, by hand where only the loss does. What is centred
        already is not reported, but for zeros, which may only be how it starts.

    Allow when:
        Always, unless single logits are read.

    Example:
        >>> from nets_redundancy import constant_logit as case
        >>> from netting import codes
        >>> "PB306" in codes(case(leans=True)), "PB306" in codes(case(leans=False))
        (True, False)

    References:
        Bridle (1990), Probabilistic interpretation of feedforward classification
        network outputs, section 2. Wang et al. (2016), Dueling network architectures
        for deep reinforcement learning, section 3 (equation 9). Bradley and Terry
        (1952), Rank analysis of incomplete block designs, section 2.
    """
    ended = (p for p in loose(survey) if p.by in ENDS)
    found = by_parameter(ended)
    for parameter, proofs in found.items():
        numbers = proved(survey, proofs)
        numbers["directions"] = sum(p.directions for p in proofs)
        remedy = by_fix(survey, ADVICE, "PB306", proofs)
        cause = ENDS[proofs[0].by]
        yield _finding(survey, parameter, numbers, cause, remedy, steps=told(proofs))
    outputs = [s for s in survey.sites if s.is_output]
    if (
        survey.loss is not None
        and survey.loss.shift_free
        and survey.loss.units > 1
        and len(outputs) == 1
        and outputs[0].bias
        and outputs[0].rows is None
        and outputs[0].out == survey.loss.units
        and outputs[0].activation is None
        and outputs[0].norm is None
        and outputs[0].bias not in found
    ):
        numbers: dict[str, int | float] = {
            "directions": 1,
            "elements": outputs[0].out,
        }
        yield _finding(
            survey,
            outputs[0].bias,
            numbers,
            "the loss, by its values, does not change when all units of a sample "
            "grow by one number; the logits that are returned do",
            Remedy(advice=ADVICE.replace(" {fix}", "")),
            steps=(
                "in training null for the loss: it was asked at the outputs as they "
                "are and shifted",
                "in inference it counts: the logits are returned as they are",
            ),
        )


def _finding(
    survey: Survey,
    parameter: str,
    numbers: dict[str, int | float],
    cause: str,
    remedy: Remedy,
    steps: tuple[str, ...],
) -> Finding:
    now = ""
    tensor = survey.tensors.get(parameter)
    if tensor and tensor.count == numbers["elements"]:
        numbers |= {"common": tensor.mean}
        now = " (now {common})"
    return Finding(
        site=parameter,
        message="{directions} {directions:direction|directions} of these {elements} "
        f"elements {{directions:is|are}} lost: one number added to all{now}",
        cause=cause,
        evidence=numbers,
        remedy=remedy,
        steps=steps,
    )
