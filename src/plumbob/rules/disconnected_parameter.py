"""PB405: a trainable parameter that the loss does not depend on."""

from collections.abc import Iterator

from plumbob.paths import behind, reached, readers
from plumbob.rule import modules, rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule("PB405", "disconnected-parameter", Needs.GRADIENTS, Severity.ERROR, since="0.1")
def disconnected_parameter(survey: Survey) -> Iterator[Finding]:
    """A trainable parameter has no path to the loss, so it never learns.

    Why:
        A gradient that happens to be 0 (a zero-initialised branch, a row of a table
        that this batch does not use) has a path and is not meant: only where autograd
        finds no path at all is the parameter disconnected. Three cases differ:

        - no parameter has a path: nothing can be learnt, an error;
        - the map runs and a map behind it does learn, or what learns has no path to
          the model's input, so that torch did not see it go: it is cut on the way
          (detach, .data, argmax, a round trip through numpy, no_grad): a warning, for
          these layers keep their random values;
        - nothing behind it learns either: this forward pass or this loss does not use
          it (the pooler of a language model): info. It costs memory, and data-parallel
          training stops unless told to look for unused parameters.

        No threshold: there is a path or there is none.

    Evidence:
        parameters: how many are disconnected, of `of` trainable ones.

    Remedy:
        Mend the cut, or freeze (requires_grad_(False)) or delete what is unused.

    Allow when:
        The stop is meant and the part is not trained by this loss (a target network);
        freezing it says so.

    Example:
        >>> from nets import codes, disconnected_parameter
        >>> leans, plumb = (disconnected_parameter(leans=x) for x in (True, False))
        >>> codes(leans), codes(plumb)
        ({'PB405'}, set())

    References:
        Li et al. (2020), PyTorch Distributed, section 3.2.3 (unused parameters).
    """
    lost = [name for name, g in survey.gradients.items() if not g.reached]
    if not lost:
        return
    of = len(survey.gradients)
    if len(lost) == of:
        yield _finding(
            survey,
            lost,
            of,
            severity=Severity.ERROR,
            cause="the loss depends on none of them: it was computed from detached "
            "values",
            advice="Let the loss depend on the model: look for detach, .item(), numpy, "
            "argmax or no_grad between the output and the loss.",
        )
        return
    reached = {name for name, g in survey.gradients.items() if g.reached}
    learns = {s.name for s in survey.sites if reached & {s.weight, s.bias}}
    after = readers(survey)
    unfed = not _fed(survey) & learns
    cut = {
        name
        for site in survey.sites
        if (reading := survey.readings.get(site.name)) and reading.z is not None
        if site.name not in learns and (unfed or behind(site.name, after) & learns)
        for name in (site.weight, site.bias)
        if name in lost
    }
    for names, severity, cause, advice in (
        (
            [name for name in lost if name in cut],
            Severity.WARNING,
            "what learns has no path to the model's input, so the path is cut between"
            if unfed
            else "maps behind them learn, so the path is cut between",
            "Look for detach, .data, argmax, rounding, numpy or no_grad behind the "
            "last of them; if the stop is meant, freeze them.",
        ),
        (
            [name for name in lost if name not in cut],
            Severity.INFO,
            "this loss makes no use of them, nor of anything behind them",
            "Freeze or delete what is never used.",
        ),
    ):
        if names:
            yield _finding(
                survey, names, of, severity=severity, cause=cause, advice=advice
            )


def _fed(survey: Survey) -> set[str]:
    """Return the names of all sites that the model's input reaches.

    All sites where none is known to read it: then nothing can be said.
    """
    first = [site for site in survey.sites if site.reads_input] or survey.sites
    return reached((site.name for site in first), readers(survey))


def _finding(
    survey: Survey,
    names: list[str],
    of: int,
    *,
    severity: Severity,
    cause: str,
    advice: str,
) -> Finding:
    last = [s.name for s in survey.sites if {s.weight, s.bias} & set(names)]
    return Finding(
        site=last[-1] if last else names[0],
        message="{parameters} of {of} trainable {of:parameter|parameters} "
        "{parameters:has|have} no path to the loss: " + modules(names),
        cause=cause,
        evidence={"parameters": len(names), "of": of},
        remedy=Remedy(advice=advice),
        severity=severity,
    )
