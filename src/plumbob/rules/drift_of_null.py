"""PB709: redundant biases that round-off moves."""

from collections.abc import Iterator

import numpy as np

from plumbob.progress import in_proportion
from plumbob.remedies import drop_bias
from plumbob.rule import by_parameter, modules, rule, told
from plumbob.types import Finding, Needs, Proof, Remedy, Severity, Survey


@rule(
    "PB709",
    "drift-of-null",
    Needs.HISTORY | Needs.GRAPH | Needs.OPTIMIZER,
    Severity.INFO,
    since="0.1",
)
def drift_of_null(survey: Survey, *, steps_above: float = 1.0) -> Iterator[Finding]:
    """Biases that nothing sees wander, moved by the round-off of their gradients.

    Why:
        The gradient of a bias that is proved to be null is 0; in floating point it is
        what rounding leaves, some 1e-9 of its terms. Plain SGD takes that for what it
        is. Adam and its kin divide by the root of the mean square of the gradient,
        which makes a full step of anything: the bias walks at random, by lr a step.
        Nothing is lost but memory and time, until the bias has gone so far that half
        precision no longer holds what it is added to, or batch norm's running mean lags
        behind it: then outputs of training and evaluation differ.

    Evidence:
        parameters: how many biases drift. moved: root mean square over the elements,
        of the one that moved most, of how far it is from where it began; steps: that
        in steps of the learning rate. share: the same in standard deviations of that
        map's net input, where it was measured.

    Args:
        steps_above: how many steps of the learning rate an element has moved by.

    Remedy:
        Build the map with bias=False. Info: a bias before batch norm drifted by 0.0046,
        a hundredth of a deviation, in 1,000 steps of Adam at 0.001 in an MLP on digits,
        and accuracy was that of the net without the norm, 97 %.

    Allow when:
        The bias is kept so that checkpoints fit.

    Example:
        >>> from nets_history_steps import drift_of_null
        >>> from watched import codes
        >>> codes(drift_of_null(leans=True)) & {"PB709"}
        {'PB709'}
        >>> codes(drift_of_null(leans=False)) & {"PB709"}
        set()

    References:
        Ioffe and Szegedy (2015), Batch normalization, section 3.2 (the bias is
        subsumed).
        Kingma and Ba (2015), Adam: a method for stochastic optimization, section 2.1.
    """
    assert survey.history is not None
    if in_proportion(survey):
        return
    whole: dict[str, Proof] = {}
    for name, proofs in by_parameter(survey.proofs).items():
        nulls = [p for p in proofs if p.training == "null" and p.direction == "each"]
        course = survey.history.courses.get(name)
        if course is not None and sum(p.directions for p in nulls) == course.numel:
            whole[name] = nulls[0]
    far = {name: _steps(survey, name) for name in whole}
    far = {name: steps for name, steps in far.items() if steps > steps_above}
    if not far:
        return
    name = max(far, key=lambda name: far[name])
    course = survey.history.courses[name]
    moved = course.moved[np.isfinite(course.moved)][-1] / course.numel**0.5
    evidence: dict[str, int | float] = {
        "parameters": len(far),
        "moved": float(moved),
        "steps": far[name],
    }
    site = next((s for s in survey.sites if s.bias == name), None)
    row = survey.history.windows.get(site.name, ()) if site is not None else ()
    sd = float(np.sqrt(row[-1].z.var.mean())) if row else 0.0
    if sd > 0:
        evidence["share"] = float(moved) / sd
    yield Finding(
        site=name,
        message="{parameters} {parameters:bias|biases} that nothing sees drift, by up "
        "to {moved:.2g}, {steps:.3g} steps of the learning rate"
        + (" and {share:.2g} deviations of its map" if sd > 0 else "")
        + ": "
        + modules(far),
        cause="their gradients are round-off, of which the optimiser makes full steps "
        "as it divides by their size",
        evidence=evidence,
        steps=told([whole[name]]),
        severity=Severity.INFO,
        remedy=drop_bias(
            survey,
            name,
            Remedy(
                advice="Build the map with bias=False; or leave the bias out of the "
                "optimiser."
            ),
        ),
    )


def _steps(survey: Survey, name: str) -> float:
    """Return by how many steps of the learning rate an element has moved, about."""
    assert survey.history is not None
    course = survey.history.courses[name]
    moved, lr = (part[np.isfinite(part)] for part in (course.moved, course.lr))
    if not len(moved) or not len(lr) or lr.max() <= 0 or (course.decay > 0).any():
        return 0.0
    return float(moved[-1] / course.numel**0.5 / lr.max())
