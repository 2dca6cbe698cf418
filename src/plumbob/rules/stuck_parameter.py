"""PB507: parameters that have a gradient and do not move, or are lost in one step."""

from collections.abc import Iterator, Mapping

from plumbob.rule import modules, rule
from plumbob.types import Finding, Move, Needs, Remedy, Severity, Stage, Survey

HALF = ("float16", "bfloat16")
BY_HAND = Remedy(
    advice="Look at how the optimiser was made: each parameter that trains belongs to "
    "one group, with a learning rate above 0."
)


@rule(
    "PB507",
    "stuck-parameter",
    Needs.STEP | Needs.OPTIMIZER | Needs.WEIGHTS,
    Severity.ERROR,
    since="0.1",
)
def stuck_parameter(survey: Survey, *, still_above: float = 0.5) -> Iterator[Finding]:
    """A step of the optimiser does not do to a parameter what its gradient asks.

    Why:
        What has a gradient and is held by the optimiser moves; what is frozen stays;
        what was finite stays finite. Tried on a copy:

        - NaN after a step from finite gradients: an error. Adam in float16 does it
          (its eps of 1e-8 is 0 there, and 0 / 0 is NaN), as does eps=0 at a unit whose
          gradient is 0. A parameter that is NaN never moves again.
        - a step below half the spacing of the numbers around a weight is rounded
          away. bfloat16 has 8 bits: near 0.05 it knows steps of 0.0002. What does
          not move in the first steps, when gradients are largest, never will.
        - a learning rate of 0, or a frozen parameter that a step moves: info.

    Evidence:
        elements: how many values are lost, in `parameters` parameters; or how many
        with a gradient stay as they are, bit for bit, of `pulled`; share: of them.

    Args:
        still_above: share of the elements in half precision that do not move from
            which on it is a warning before training (after it, and while the learning
            rate is still below the one that the groups begin with, info). Half, since
            a step is then rounded away more often than not.

    Remedy:
        Keep the weights in float32 and compute in half precision (torch.autocast), or
        give Adam an eps that the dtype knows (1e-4 in float16). An MLP on digits wholly
        in bfloat16 against the same in float32 (three seeds, 15 epochs): with 82-89 %
        still 79-80 % against 87-90 % right (SGD at 0.01) and 13-23 % against 86-88 %
        (Adam at 0.0001); with up to 42 % still no difference.

    Allow when:
        The optimiser rounds at random, or keeps float32 copies that it does not show.

    Example:
        >>> from nets_optimizer import stuck_parameter
        >>> from netting import codes
        >>> codes(stuck_parameter(leans=True)) & {"PB507"}
        {'PB507'}
        >>> codes(stuck_parameter(leans=False)) & {"PB507"}
        set()

    References:
        Micikevicius et al. (2018), Mixed precision training, section 3.1.
        Zamirai et al. (2021), Revisiting BFloat16 training.
    """
    step, optimizer = survey.step, survey.optimizer
    assert step is not None
    assert optimizer is not None
    rates = {name: g.lr for g in optimizer.groups for name in g.parameters}
    moves = {n: m for n, m in step.moves.items() if n in survey.tensors}
    lost = {n: m for n, m in moves.items() if m.broken}
    if lost:
        yield Finding(
            message="one step makes {elements} {elements:value|values} of {parameters} "
            "{parameters:parameter|parameters} NaN or infinite: " + modules(lost),
            cause="their gradients are finite, so it is the optimiser's arithmetic: an "
            "eps that is 0, or that this dtype rounds to 0, or a step too long for it",
            evidence={
                "elements": sum(m.broken for m in lost.values()),
                "parameters": len(lost),
            },
            remedy=Remedy(
                advice="Give the optimiser an eps that the dtype knows, or keep the "
                "weights in float32 and compute under torch.autocast."
            ),
        )
    moves = {n: m for n, m in moves.items() if n not in lost}
    half = {
        n: m
        for n, m in moves.items()
        if survey.tensors[n].dtype.removeprefix("torch.") in HALF
        and rates.get(n, 0) > 0
    }
    yield from _rounded(survey, half, still_above)
    idle = [n for n, m in moves.items() if m.pulled and rates.get(n, 1.0) == 0]
    if idle:
        yield Finding(
            message="{parameters} {parameters:parameter|parameters} with a gradient "
            "{parameters:has|have} a learning rate of 0: " + modules(idle),
            cause="a warm-up begins there, or it was forgotten",
            evidence={"parameters": len(idle)},
            severity=Severity.INFO,
            remedy=BY_HAND,
        )
    frozen = [n for n in moves if not survey.tensors[n].trainable]
    if moved := [n for n in frozen if moves[n].change > 0]:
        yield Finding(
            message="a step moves {parameters} frozen "
            "{parameters:parameter|parameters}: " + modules(moved),
            cause="the optimiser holds {parameters:it|them} and changes what has no "
            "gradient",
            evidence={"parameters": len(moved)},
            severity=Severity.INFO,
            remedy=BY_HAND,
        )


def _rounded(
    survey: Survey, half: Mapping[str, Move], still_above: float
) -> Iterator[Finding]:
    """Yield a finding where steps in half precision are rounded away."""
    assert survey.step is not None
    assert survey.optimizer is not None
    pulled = sum(m.pulled for m in half.values())
    still = sum(m.still for m in half.values())
    if not pulled or still <= still_above * pulled:
        return
    begun = survey.optimizer.steps or survey.said is Stage.TRAINED
    initial = not begun and any(site.stage is Stage.INIT for site in survey.sites)
    yield Finding(
        message="{elements} of {pulled} values with a gradient ({share:.0%}) stay as "
        "they are when the optimiser steps",
        cause="its steps are below the spacing of numbers in this precision, and are "
        "rounded away",
        evidence={"elements": still, "pulled": pulled, "share": still / pulled},
        severity=Severity.WARNING
        if initial and not survey.step.warming
        else Severity.INFO,
        remedy=Remedy(
            advice="Keep the weights in float32 and compute under torch.autocast."
        ),
    )
