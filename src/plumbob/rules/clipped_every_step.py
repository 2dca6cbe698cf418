"""PB712: gradients that are clipped at every step, or where they are not finite."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.progress import gained, in_proportion
from plumbob.rule import rule
from plumbob.types import Finding, History, Needs, Remedy, Severity, Survey

LOGS = 10  # by chance ten norms are not the same
ROUND = 1e-4  # of a norm: how near a number with two digits it must be


@rule(
    "PB712",
    "clipped-every-step",
    Needs.HISTORY,
    Severity.WARNING,
    since="0.1",
    explains=("PB711", "PB718"),
)
def clipped_every_step(
    survey: Survey,
    *,
    spread_below: float = 1e-3,
    gained_below: float = 0.1,
    steps_above: int = 200,
) -> Iterator[Finding]:
    """The norm of all gradients is the same number whenever the optimiser gets them.

    Why:
        Clipping is meant for the rare batch. Where it bites at every step the size of
        the gradient is lost: plain SGD then takes steps of one length, lr times the
        limit, however near the goal. Its learning rate is no longer what it says, and
        no step is shorter where the loss asks for it. Adam and its kin divide by the
        gradient's size anyway, and hardly notice.

        Where a gradient is not finite, clipping by the norm spreads it: all gradients
        become NaN, or all are 0 and the step is lost.

        The norm of gradients of different batches is never the same twice; clipped, it
        is, but for rounding. Both are seen from what the optimiser gets.

    Evidence:
        norm: that of all gradients at the last of the `logs` measured steps at which
        it was the same; spread: the largest difference between two of them as a share
        of it. lost: how many measured steps got no finite gradient, or 0 from all
        parameters, among the others. gained: the share of what was to be learnt that
        has been learnt, where the loss is known.

    Args:
        spread_below: differences, as a share of the norm, that count as none.
        gained_below: share of what was to be learnt below which it is a warning, with
            an optimiser that steps in proportion to the gradient, or where steps are
            lost.
        steps_above: steps after which it can be.

    Remedy:
        Raise the limit above the usual norm, or take clipping out and set the learning
        rate. Info where the training learns, or Adam steps. An MLP on digits (SGD at
        0.1, 10 epochs, three seeds): 96-97 % right without clipping or with a limit of
        1, 73-79 % with one of 0.1 and 13-23 % with 0.01; with Adam 96-97 % for all.

    Allow when:
        Steps of one fixed length are meant (normalised gradient descent).

    Example:
        >>> from nets_history_steps import clipped_every_step
        >>> from watched import codes
        >>> codes(clipped_every_step(leans=True)) & {"PB712"}
        {'PB712'}
        >>> codes(clipped_every_step(leans=False)) & {"PB712"}
        set()

    References:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent
        neural networks, section 3.2.
        Zhang et al. (2020), Why gradient clipping accelerates training.
    """
    history = survey.history
    assert history is not None
    norms = _norms(history)
    fit = np.isfinite(norms) & (norms > 0)
    last = norms[fit][-LOGS:]
    if len(last) < LOGS or not _alike(last, spread_below):
        return
    lost = int((~fit & ~np.isnan(norms)).sum())
    evidence: dict[str, int | float] = {
        "norm": float(last[-1]),
        "logs": len(last),
        "spread": float(np.ptp(last) / last[-1]),
        "lost": lost,
    }
    progress = gained(history)
    if progress is not None:
        evidence["gained"] = progress
    learns = progress is not None and progress >= gained_below
    short = (
        progress is not None
        and not learns
        and in_proportion(survey)
        and history.taken >= steps_above
    )
    yield Finding(
        message="the norm of all gradients is {norm:.4g} at each of the last {logs} "
        "measured steps"
        + (
            "; {lost} other {lost:step|steps} got no finite gradient, or none at all"
            if lost
            else ""
        ),
        cause="they are clipped to it every time, which makes each step equally long "
        "and spreads a gradient that is not finite over all",
        evidence=evidence,
        severity=None if short or (lost and not learns) else Severity.INFO,
        remedy=Remedy(
            advice="Raise the limit above the norms that are usual; or take the "
            "clipping out and lower the learning rate; or give clip_grad_norm_ "
            "error_if_nonfinite=True and leave such a batch out."
        ),
    )


def _norms(history: History) -> Float[Any, " logs"]:
    """Return the norm of all gradients at each log: NaN where there were none."""
    each = [course.gradient for course in history.courses.values()]
    if not each:
        return np.zeros(0)
    all_of_them = np.array(each)
    none = np.isnan(all_of_them).all(0)
    return np.where(none, np.nan, np.sqrt(np.nansum(all_of_them**2, axis=0)))


def _alike(norms: Float[Any, " some"], spread_below: float) -> bool:
    """Return whether norms are the same but for rounding, and a number one would set.

    A limit is written with two digits at most; gradients that happen to be alike (of
    a mean absolute error, or of all data at once at rest) fall on such a number once
    in a hundred times.
    """
    size = float(np.median(norms))
    if np.ptp(norms) > spread_below * size:
        return False
    return abs(float(f"{size:.1e}") - size) <= ROUND * size
