"""PB713: trained in evaluation mode, evaluated in training mode, or norms that stop."""

from collections.abc import Iterator
from dataclasses import dataclass

from plumbob.progress import gained
from plumbob.rule import modules, rule
from plumbob.types import Finding, History, Needs, Passes, Remedy, Severity, Survey


@dataclass(frozen=True, slots=True)
class _Slip:
    message: str
    cause: str
    advice: str
    grave: bool


@rule(
    "PB713",
    "mode-slip",
    Needs.HISTORY,
    Severity.WARNING,
    since="0.1",
    explains=("PB710", "PB711", "PB718"),
)
def mode_slip(
    survey: Survey,
    *,
    passes_above: int = 20,
    share_above: float = 0.1,
    gained_below: float = 0.1,
    steps_above: int = 100,
) -> Iterator[Finding]:
    """The model ran in the wrong mode, or its batch norms had no batch to go by.

    Why:
        Dropout and batch norm compute one thing in training and another in evaluation.
        A loop that calls `eval()` for a validation and never `train()` again goes on
        without dropout and with batch norms that keep to statistics of weights long
        gone; one that forgets `eval()` reports losses with units missing, and lets the
        held-out data into the running statistics. A batch norm on batches of one
        divides each sample by its own deviation, and evaluates it by others. All of it
        is also done on purpose, so a slip is told by what goes with it, and warned of
        only where it was measured to cost.

    Evidence:
        slipped: passes with gradients in evaluation mode, of trained with gradients;
        streak: those since the last one in training mode; before: those in training
        mode; evaluating: passes without gradients in evaluation mode.
        tested: passes without gradients in training mode; held: losses on held-out
        data that were told.
        norms: batch norms concerned; steps of the optimiser.
        gained: how much of what was to be learnt the loss has gained.

    Args:
        passes_above: passes from which it is a habit, not a look.
        share_above: share of the passes with gradients that are in evaluation mode.
            Measured on digits, times the epochs to 95 % on held-out data with momentum
            and with Adam, if the mode stays wrong after the first epoch: three batch
            norms 2.2 and 1.3 (a convolutional net 2.4 and 1.3), eight never and 1.0
            (never and 1.6); from the start 2.2 and 1.3 (2.2 and 2.0), eight never
            and 2.0 (never and 3.4). Without dropout of one half: 0.6 and 0.8, hence
            info. Evaluated in training mode, dropout of one half took 8 and 2 points
            off the best accuracy shown, eight batch norms 2 and 2, three under 1.
        gained_below: what counts as next to nothing gained on the best constant's
            loss: where a mode may be meant (frozen statistics, batches of one, all of a
            training in evaluation mode), it is a warning only then.
        steps_above: steps from which that is judged.

    Remedy:
        `model.train()` at the head of each epoch, `model.eval()` before each
        evaluation. Statistics frozen on purpose: freeze gain and bias too. Batches of
        one: group norm or larger batches.

    Allow when:
        The mode is meant: statistics frozen in fine-tuning, dropout sampled in
        evaluation (told apart where the same input is passed again), a generator that
        is run without gradients, statistics measured anew after an average of weights.

    Example:
        >>> from nets_history_units import mode_slip
        >>> from watched import codes
        >>> codes(mode_slip(leans=True)) & {"PB713"}
        {'PB713'}

    References:
        Ioffe and Szegedy (2015), Batch normalization, sections 3.1 and 4.2. Srivastava
        et al. (2014), Dropout, section 10. Gal and Ghahramani (2016), Dropout as a
        Bayesian approximation.
    """
    history = survey.history
    assert history is not None
    passes, won = history.passes, gained(history)
    trained = passes.training + passes.trained_in_eval
    # without a constant's loss it may have been learnt before: a model that is tuned
    stuck = won is not None and won < gained_below and history.constant is not None
    stuck &= history.taken >= steps_above
    evidence: dict[str, int | float] = {
        "slipped": passes.trained_in_eval,
        "trained": trained,
        "before": passes.training,
        "streak": passes.streak,
        "evaluating": passes.evaluating,
        "tested": passes.tested_in_training,
        "held": 0 if history.held is None else len(history.held.values),
        "steps": history.taken,
    }
    evidence |= {} if won is None else {"gained": max(won, 0.0)}
    slips = (
        _trained(passes, passes_above, share_above * trained, stuck),
        _tested(history, passes_above),
        _norms(passes, stuck),
    )
    for slip in filter(None, slips):
        lost = "; the loss has gained {gained:.1%} in {steps} steps" if stuck else ""
        yield Finding(
            message=slip.message,
            cause=slip.cause + lost,
            evidence=evidence
            | {"norms": len({*passes.frozen, *passes.alone}) or passes.norms},
            remedy=Remedy(advice=slip.advice),
            severity=Severity.WARNING if slip.grave else Severity.INFO,
        )


def _trained(passes: Passes, least: int, share: float, stuck: bool) -> _Slip | None:
    slipped = passes.trained_in_eval
    if not passes.differs or slipped < least or slipped < share:
        return None
    back = "Call model.train() at the head of each epoch"
    if passes.training and passes.evaluating and passes.streak >= least:
        return _Slip(
            "{slipped} of {trained} passes with gradients were in evaluation mode, the "
            "last {streak} without a break",
            "after {before} passes in training mode the model was set to evaluate, and "
            "not back",
            f"{back}, after each evaluation.",
            passes.norms > 0 or stuck,
        )
    return _Slip(
        "{slipped} of {trained} passes with gradients were in evaluation mode",
        "dropout is off, and batch norms keep to their running statistics",
        f"{back}; or, where that is meant, freeze the batch norms' gains and biases.",
        stuck and not passes.training and passes.norms > 0,
    )


def _tested(history: History, least: int) -> _Slip | None:
    passes = history.passes
    tested = passes.tested_in_training - passes.repeated
    if not passes.differs or passes.evaluating or 2 * tested < least:
        return None
    told = history.held is not None and 2 * passes.repeated < passes.tested_in_training
    return _Slip(
        "{tested} passes without gradients were in training mode, none in evaluation "
        "mode" + (", and {held} held-out losses were told" if told else ""),
        "dropout was on, or batch norms used the batch's own statistics and learnt "
        "them",
        "Call model.eval() before an evaluation, and model.train() after it.",
        told,
    )


def _norms(passes: Passes, stuck: bool) -> _Slip | None:
    if passes.alone:
        return _Slip(
            "{norms} batch {norms:norm|norms} trained on batches of one sample: "
            + modules(f"{name}.weight" for name in passes.alone),
            "each sample was normalised by its own mean and deviation, and will be "
            "evaluated by those of others",
            "Use group norm; or larger batches; or freeze the statistics.",
            stuck,
        )
    if passes.frozen:
        return _Slip(
            "{norms} batch {norms:norm|norms} kept to {norms:its|their} running "
            "statistics while {norms:its|their} gain was trained: "
            + modules(f"{name}.weight" for name in passes.frozen),
            "what comes in need not have mean 0 and variance 1 behind them",
            "Let them train (model.train()); or freeze their gains and biases too.",
            stuck,
        )
    return None
