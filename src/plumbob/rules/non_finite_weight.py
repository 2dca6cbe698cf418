"""PB101: a parameter, or a statistic of a norm, holds NaN or Inf."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from plumbob.rule import rule
from plumbob.types import Census, Finding, Needs, Remedy, Safety, Severity, Survey

NAMED = 4  # parameters by name, where more are broken


@rule(
    "PB101",
    "non-finite-weight",
    Needs.WEIGHTS,
    Severity.ERROR,
    since="0.1",
    explains=("PB101", "PB208", "PB403"),
)
def non_finite_weight(survey: Survey) -> Iterator[Finding]:
    """A parameter holds NaN or Inf, or a norm's running mean or variance does.

    Why:
        One NaN in W or b makes its unit's z = W x + b NaN for every input, and the
        next map spreads it to every unit. No gradient step mends it: NaN minus
        anything is NaN. There is no harmless count, so there is no threshold. The
        pattern tells where it came from, since a step subtracts sums of delta x': a
        NaN loss breaks every value; a delta that is NaN for one unit its whole row; an
        x that is NaN in one feature (or one entry of a table) its whole column. Single
        values only are no NaN of z or x, but an overflow of their own. A step later
        all parameters are broken: where several are, that is one finding, and what
        the patterns told is lost. Infinities alone do not spread so (masks in a
        checkpoint): each is told by itself.

    Evidence:
        nans, infs: how many values are NaN and infinite, of `count`.
        units, features: in how many rows and in how many columns of W they lie (not
        there where the parameter is no map's).
        parameters of `of`: how many hold such values, where several do; whole: how
        many of them hold nothing else; nans, infs, count are then their sums. spoilt:
        values of the input that are not finite.

    Remedy:
        Go back to the last checkpoint whose parameters are finite and find the step
        that broke it; clipping afterwards does not help, it turns Inf into NaN. Set a
        norm's statistics back (`plumbob.apply` does) and measure them again: inference
        is wrong until then.

    Allow when:
        Never for a parameter. A mask kept as a parameter with -inf belongs in a
        buffer.

    Example:
        >>> from nets import codes, non_finite_weight
        >>> codes(non_finite_weight(leans=True)), codes(non_finite_weight(leans=False))
        ({'PB101'}, set())

    References:
        IEEE Std 754-2019, Floating-point arithmetic, section 6.2 (NaN propagates).
    """
    broken = {name: t for name, t in survey.tensors.items() if t.nans or t.infs}
    norms: dict[str, list[str]] = {}
    for name in [name for name in broken if _statistic(name)]:
        norms.setdefault(name.rpartition(".")[0], []).append(name)
    parameters = {n: t for n, t in broken.items() if not _statistic(n)}
    if len(parameters) > 1 and any(t.nans for t in parameters.values()):
        yield _several(parameters, survey)
    else:
        for name, tensor in parameters.items():
            units, places, cause = _pattern(name, tensor, survey)
            yield Finding(
                site=name,
                units=units,
                message=_told([tensor]),
                cause=cause,
                evidence=_counts([tensor]) | places,
                remedy=Remedy(
                    advice="Go back to the last checkpoint with finite parameters."
                ),
            )
    sites = {site.name for site in survey.sites}
    for norm, names in norms.items():
        tensors = [broken[name] for name in names]
        which = " and ".join(name.rpartition(".")[2] for name in names)
        yield Finding(
            site=norm if norm in sites else names[0],
            message=f"{_told(tensors)} of its {which}",
            cause="a batch that held NaN or Inf went through in training mode",
            evidence=_counts(tensors),
            remedy=Remedy(
                advice="Set the running statistics of this norm back "
                "(reset_running_stats) and measure them again; find the batch.",
                safety=Safety.CHANGES_TRAINING,
                act="reset-statistics",
                arguments={"norm": norm},
            ),
        )


def _statistic(name: str) -> bool:
    return name.rpartition(".")[2] in {"running_mean", "running_var"}


def _counts(tensors: Collection[Census]) -> dict[str, int]:
    return {
        "nans": sum(t.nans for t in tensors),
        "infs": sum(t.infs for t in tensors),
        "count": sum(t.count for t in tensors),
    }


def _told(tensors: Collection[Census]) -> str:
    numbers = _counts(tensors)
    parts = (("nans", "{nans} NaN"), ("infs", "{infs} infinite"))
    some = " and ".join(told for name, told in parts if numbers[name])
    return f"{some} among {{count}} {{count:value|values}}"


def _several(broken: Mapping[str, Census], survey: Survey) -> Finding:
    """Return the one finding of a model that a step has broken at several places."""
    first = [name.replace("{", "{{").replace("}", "}}") for name in broken][:NAMED]
    more = ", ..." if len(broken) > NAMED else ""
    every = broken.values()
    inputs = [survey.readings.get(s.name) for s in survey.sites if s.reads_input]
    spoilt = [int(r.x.nonfinite.sum()) for r in inputs if r and r.x is not None]
    evidence = _counts(every) | {
        "parameters": len(broken),
        "of": sum(not _statistic(name) for name in survey.tensors),
        "whole": sum(t.nans + t.infs == t.count for t in every),
        "spoilt": max(spoilt, default=0),
    }
    if evidence["spoilt"]:
        cause = (
            "the data: {spoilt} {spoilt:value|values} of the input {spoilt:is|are} NaN "
            "or infinite, and one step with them breaks all that it reaches"
        )
        advice = "Leave out or mend the samples that are not finite, then go"
    else:
        cause = (
            "the loss or a gradient was NaN or infinite in a step, and every step "
            "since has spread it"
        )
        advice = "Go"
    return Finding(
        message="{parameters} of {of} parameters hold NaN or Inf, {whole} of them "
        f"nothing else: {', '.join(first)}{more}",
        cause=cause,
        evidence=evidence,
        remedy=Remedy(
            advice=f"{advice} back to the last checkpoint with finite parameters."
        ),
    )


def _pattern(
    name: str, tensor: Census, survey: Survey
) -> tuple[tuple[int, ...], dict[str, int], str]:
    """Return units, in how many rows and columns the values lie, and what that says."""
    broken = tensor.nans + tensor.infs
    if broken == tensor.count:
        return (), {}, "all of its values: the loss or its gradient was NaN in a step"
    units, columns = list[int](), 0
    whole_rows = whole_columns = out = width = 0
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        rows = reading.rows if reading else None
        first = site.rows[0] if site.rows else 0
        if rows is not None and site.bias == name and rows.bias is not None:
            spoilt = np.flatnonzero(~np.isfinite(rows.bias))
            units += [first + int(j) for j in spoilt]
        if rows is not None and site.weight == name:
            spoilt = np.flatnonzero(~np.isfinite(rows.norm))
            units += [first + int(j) for j in spoilt]
            features = int((~np.isfinite(rows.columns)).sum())
            columns, out, width = columns + features, out + site.out, site.fan_in
            whole_rows += len(spoilt) * site.fan_in
            whole_columns += features * site.out
    numbers = {"units": len(units)} | ({"features": columns} if columns else {})
    if not units:
        return (), {}, "some of its values only: a gradient that was NaN in these"
    if not columns:
        cause = (
            "{units:this unit|these units} only: the gradient was NaN there in a step"
        )
    elif broken == whole_rows:
        cause = (
            "whole rows: the gradient of z was NaN in a step, for {units} of its "
            "units only"
        )
    elif broken == whole_columns:
        cause = (
            "whole columns: {features} of its inputs {features:was|were} NaN or "
            "infinite in a step"
        )
    elif len(units) < out and columns < width:
        cause = (
            "single values, in {units} {units:row|rows} and {features} "
            "{features:column|columns}: no NaN of z or x does that, but an overflow "
            "of their own (half precision, a cast), a damaged file or an edit"
        )
    else:
        cause = "some values of every row: x or a gradient was NaN in parts in a step"
    return tuple(units), numbers, cause
