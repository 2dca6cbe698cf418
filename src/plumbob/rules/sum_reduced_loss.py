"""PB605: the loss is a sum over the batch, so the step grows with the batch."""

from collections.abc import Iterator

from plumbob.progress import in_proportion, learnt
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB605",
    "sum-reduced-loss",
    Needs.LOSS,
    Severity.WARNING,
    since="0.1",
    explains=("PB402", "PB503"),
)
def sum_reduced_loss(
    survey: Survey, *, too_long_above: float = 2.0, learnt_below: float = 0.5
) -> Iterator[Finding]:
    """The loss adds up over the samples of a batch instead of averaging.

    Why:
        Loss, gradient and curvature are those of the mean times the batch size: under
        SGD so is the learning rate, and another batch size, or a smaller last batch,
        is another one. Penalties and clipping, set for one sample, weigh so many times
        less. Adam and its kin divide the size of the gradient out. A learning rate may
        be set for the sum; then all is well until the batch size changes. A sum
        over the pixels of a sample and a mean over samples is no such sum. Seen by
        giving the loss every sample twice.

    Evidence:
        batch: how many samples the loss adds up in training. length: the curvature
        met along the first steps of the optimiser, in units of what would make a step
        just end at the bottom (lr times curvature); mean: that of the mean,
        length / batch; first, worst: the loss before and the highest in these steps,
        on one batch. On a copy, and only of an optimiser whose steps are in proportion
        to the gradient (SGD): those of Adam are as long for the mean.

    Args:
        too_long_above: the length from which it is a warning, where the loss is seen
            to stay above its start and the mean's would be below: above 2 a step on a
            parabola ends higher than it began. Digits, cross-entropy, SGD, batches of
            32, 20 epochs, 3 seeds, sum against mean: at a rate of 0.05 accuracy 0.10
            against 0.94, at 0.01 0.97 against 0.49, at 0.003 0.96 against 0.19; with
            Adam both 0.96 in as many epochs.
        learnt_below: share learnt from which the rate evidently was set for the sum.

    Remedy:
        Take the mean (reduction="mean"), by hand: the loss is not the model's; or
        divide the learning rate by the batch size.

    Allow when:
        The learning rate was chosen for this sum and this batch size.

    Example:
        >>> from nets_loss import sum_reduced_loss
        >>> from netting import codes
        >>> ["PB605" in codes(sum_reduced_loss(leans=x)) for x in (1, 0)]
        [True, False]

    References:
        Goyal et al. (2017), Accurate, large minibatch SGD, section 2.1. Braiek and
        Khomh (2023), Testing feedforward neural networks training programs, section 3.
    """
    found, step = survey.loss, survey.step
    assert found is not None
    if found.reduction != "sum" or found.batch < 2:
        return
    evidence: dict[str, int | float] = {"batch": found.batch}
    cause = "it is the mean's times {batch}, and so is its gradient"
    long = False
    if step is not None and step.curvature and in_proportion(survey):
        length, so_far = step.curvature, learnt(survey)
        evidence |= {"length": length, "mean": length / found.batch}
        long = length > too_long_above >= length / found.batch
        # one leap over the start alone is often survived
        late = step.losses[len(step.losses) // 2 :]
        long = long and not any(value <= step.losses[0] for value in late)
        long = long and (so_far is None or so_far < learnt_below)
        if long:
            evidence |= {"first": step.losses[0], "worst": max(step.losses)}
            cause += ": a step is {length:.3g} times one to the bottom, {mean:.2g} by "
            cause += "the mean, and the loss stays above {first}, at {worst} once"
    yield Finding(
        message="the loss is a sum over the {batch} samples of a batch",
        cause=cause,
        evidence=evidence,
        severity=Severity.WARNING if long else Severity.INFO,
        remedy=Remedy(
            advice='Take the mean (reduction="mean"), or divide the learning rate by '
            "the batch size, {batch}."
        ),
    )
