"""PB101: a parameter, or a statistic of a norm, holds NaN or Inf."""

from collections.abc import Iterator

import numpy as np

from plumbob.rule import rule
from plumbob.types import Census, Finding, Needs, Remedy, Safety, Severity, Survey


@rule(
    "PB101",
    "non-finite-weight",
    Needs.WEIGHTS,
    Severity.ERROR,
    since="0.1",
    explains=("PB208", "PB403"),
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
        values only are no NaN of z or x, but an overflow of their own.

    Evidence:
        nans, infs: how many values are NaN and infinite, of `count`.
        units, features: in how many rows and in how many columns of W they lie (not
        there where the parameter is no map's).

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
    sites = {site.name for site in survey.sites}
    for name, tensor in survey.tensors.items():
        if not (tensor.nans or tensor.infs):
            continue
        module, _, last = name.rpartition(".")
        statistic = last in {"running_mean", "running_var"}
        units, places, cause = _pattern(name, tensor, survey)
        yield Finding(
            site=module if statistic and module in sites else name,
            units=units,
            message=" and ".join(
                told
                for some, told in (
                    (tensor.nans, "{nans} NaN"),
                    (tensor.infs, "{infs} infinite"),
                )
                if some
            )
            + " among {count} {count:value|values}"
            + (f" of its {last}" if statistic else ""),
            cause="a batch that held NaN or Inf went through in training mode"
            if statistic
            else cause,
            evidence={"nans": tensor.nans, "infs": tensor.infs, "count": tensor.count}
            | places,
            remedy=Remedy(
                advice="Set the running statistics of this norm back "
                "(reset_running_stats) and measure them again; find the batch.",
                safety=Safety.CHANGES_TRAINING,
                act="reset-statistics",
                arguments={"norm": module},
            )
            if statistic
            else Remedy(
                advice="Go back to the last checkpoint with finite parameters."
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
