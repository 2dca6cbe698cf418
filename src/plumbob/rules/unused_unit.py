"""PB103: units that nothing reads, or that read nothing."""

from collections.abc import Iterator

import numpy as np

from plumbob.remedies import redraw
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Stage, Survey


@rule("PB103", "unused-unit", Needs.WEIGHTS, Severity.WARNING, since="0.1")
def unused_unit(survey: Survey, *, share_above: float = 0.9) -> Iterator[Finding]:
    """Some units of a layer are read by zero weights only, or have a zero row.

    Why:
        A unit whose outgoing weights are all exactly 0 adds nothing to the next map,
        W_next f(z); one whose row w is exactly 0 is the constant f(b), which the next
        bias can hold. Both cost time and memory and do nothing. Exact zeros do not
        come from gradient steps but from pruning, a mask, a copy into a wider layer,
        or a decay that ran until the values underflowed. A layer in which all rows
        or all columns are zero is a zero initial value (a last layer, a residual
        end) and is not meant; nor is anything at stage init, since the first step
        fills what is zero.

    Evidence:
        unread of units: how many are read by zeros only (where the readers are
        known); constant: how many have a zero row; unused: either of both; share of
        the layer.

    Args:
        share_above: share of unused units above which it is a warning, else info. An
            unused unit does no more than a dead one, and half a layer dead was
            measured to cost nothing, nine tenths three times the epochs (PB201).

    Remedy:
        Remove the units: their rows, biases and the columns that read them; put the
        constant f(b) of a zero row into the next bias. Or use them: `plumbob.apply`
        draws what is zero at random, as large as it is at the other units.

    Allow when:
        The layer was pruned on purpose, or padded to a round width for speed.

    Example:
        >>> from nets import codes, unused_unit
        >>> codes(unused_unit(leans=True)), codes(unused_unit(leans=False))
        ({'PB103'}, set())

    References:
        Mozer and Smolensky (1988), Skeletonization: a technique for trimming the fat
        from a network (a unit's relevance by what reads it).
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        rows = reading.rows if reading else None
        if rows is None or site.kind not in {"linear", "conv", "conv-transpose"}:
            continue
        if site.is_output or site.stage is Stage.INIT:
            continue
        constant, unread = rows.norm == 0, np.zeros(site.out, bool)
        if rows.outgoing is not None:
            unread = rows.outgoing == 0
        if constant.all() or unread.all():
            continue
        unused = constant | unread
        share = float(unused.mean())
        if not share:
            continue
        yield Finding(
            site=site.name,
            units=tuple(int(j) for j in np.flatnonzero(unused)),
            message="{unused} of {units} units {unused:does|do} nothing ({share:.1%})",
            cause=", ".join(
                told
                for some, told in (
                    (unread, "{unread} {unread:is|are} read by zero weights only"),
                    (
                        constant,
                        "{constant} {constant:has|have} a zero row and so z = b",
                    ),
                )
                if some.any()
            )
            + (" for every input" if constant.any() else ""),
            evidence={
                "unused": int(unused.sum()),
                "units": site.out,
                "share": share,
                "unread": int(unread.sum()),
                "constant": int(constant.sum()),
            },
            remedy=redraw(
                survey,
                site,
                "Remove these units, or find what set their weights to 0 and draw "
                "these at random, as large as their neighbours'.",
                rows=constant,
                columns=unread,
            ),
            severity=Severity.WARNING if share > share_above else Severity.INFO,
        )
