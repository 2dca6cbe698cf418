"""PB614: every output is compared with every target."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB614",
    "silent-broadcast",
    Needs.LOSS,
    Severity.ERROR,
    since="0.1",
    explains=("PB601",),
)
def silent_broadcast(survey: Survey) -> Iterator[Finding]:
    """Outputs and targets meet in other shapes, and the loss averages over all pairs.

    Why:
        An output of shape (N, 1) against targets of shape (N,) broadcasts to (N, N):
        no error, and a loss that falls. But it is the same if the targets are dealt to
        other samples, so nothing about the inputs can be learnt: the best output is
        one number for all, and a perfect prediction costs more than that.

        Seen by that very test, whatever the shapes: to exchange the targets between
        samples changes nothing, to replace them changes the slope, and a sample's slope
        does not depend on the other outputs (where whole distributions are compared it
        does).

    Evidence:
        exact: the loss of outputs that equal their targets; constant: of outputs that
        all equal the mean target; samples.

    Remedy:
        Give both the same shape, by hand, since it stands in the code of the loop:
        targets[:, None] or outputs.squeeze(1).

    Allow when:
        Never.

    Example:
        >>> from nets_loss import silent_broadcast
        >>> from netting import codes
        >>> ["PB614" in codes(silent_broadcast(leans=x)) for x in (1, 0)]
        [True, False]

    References:
        Braiek and Khomh (2023), Testing feedforward neural networks training programs,
        section 3.
    """
    found = survey.loss
    assert found is not None
    if not found.crossed or found.exact is None or found.constant is None:
        return
    if found.exact <= found.constant:
        return
    yield Finding(
        message="the loss compares each of {samples} outputs with every target: "
        "perfect outputs cost {exact}, the mean target for all {constant}",
        cause="outputs and targets differ in shape, as they come or as the loss turns "
        "them, and broadcasting pairs them all",
        evidence={
            "exact": found.exact,
            "constant": found.constant,
            "samples": found.samples,
        },
        remedy=Remedy(
            advice="Give outputs and targets the same shape: targets[:, None], or "
            "outputs.squeeze(1)."
        ),
    )
