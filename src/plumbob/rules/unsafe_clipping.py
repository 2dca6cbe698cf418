"""PB506: a clipping of gradients that spreads one infinite value over all."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB506",
    "unsafe-clipping",
    Needs.STEP | Needs.OPTIMIZER,
    Severity.WARNING,
    since="0.1",
)
def unsafe_clipping(survey: Survey) -> Iterator[Finding]:
    """A hook before the step scales all gradients by a norm that may be infinite.

    Why:
        Clipping by the norm multiplies every gradient by limit / norm. One infinite
        element makes that 0: it becomes NaN itself, and all others take no step. One
        NaN makes it NaN, and every parameter is lost in a single step, where without
        clipping only those were that it belongs to. Clipping by value does neither.

        Only hooks of the optimiser can be seen (`register_step_pre_hook`); what a
        training loop does between backward() and step() cannot, and this rule says
        nothing of it. A hook is not run, for it may write to what is not ours: its code
        is read. One that names a clip_grad function of a norm is told, unless a hook
        also names what asks whether that is finite (error_if_nonfinite, isfinite, ...).

    Evidence:
        nonfinite: how many elements of the gradients measured are not finite.

    Remedy:
        Give clip_grad_norm_ error_if_nonfinite=True, and catch that error to leave
        the batch out; or look at the norm that it returns before the step.
        Info while all gradients are finite, a warning where one is not: then the next
        step makes NaN of every parameter. An MLP on digits (SGD, 8 epochs, three seeds)
        with one NaN at step 50: 9 % right, as by guessing, against 94-95 % where that
        batch was left out.

    Allow when:
        A gradient scaler leaves such steps out before the hook is reached.

    Example:
        >>> from nets_optimizer import unsafe_clipping
        >>> from netting import codes
        >>> codes(unsafe_clipping(leans=True)) & {"PB506"}
        {'PB506'}
        >>> codes(unsafe_clipping(leans=False)) & {"PB506"}
        set()

    References:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent
        neural networks, section 3.2.
        PyTorch documentation, torch.nn.utils.clip_grad_norm_ (error_if_nonfinite).
    """
    assert survey.step is not None
    if survey.step.clipping != "spreads":
        return
    bad = sum(gradient.nonfinite for gradient in survey.gradients.values())
    yield Finding(
        message="the hook that clips gradients makes NaN or 0 of all of them where one "
        "is not finite"
        + ("; {nonfinite} {nonfinite:is|are}, at this very batch" if bad else ""),
        cause="it scales by a norm that is infinite or NaN itself",
        evidence={"nonfinite": bad},
        severity=None if bad else Severity.INFO,
        remedy=Remedy(
            advice="Clip with error_if_nonfinite=True and leave such a batch out."
        ),
    )
