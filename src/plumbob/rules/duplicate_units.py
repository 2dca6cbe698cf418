"""PB107: a few units are copies of others."""

from collections.abc import Iterator
from math import log2

import numpy as np

from plumbob.remedies import redraw
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Survey

# Bits of a value that are as good as random: those of its fraction.
FRACTION = {
    "float64": 52,
    "float32": 23,
    "float16": 10,
    "bfloat16": 7,
    "float8_e4m3fn": 3,
    "float8_e5m2": 2,
}


@rule("PB107", "duplicate-units", Needs.WEIGHTS, Severity.INFO, since="0.1")
def duplicate_units(
    survey: Survey, *, share_up_to: float = 0.5, chance_below: float = 1e-3
) -> Iterator[Finding]:
    """Some units of a layer repeat the weights and bias of another bit for bit.

    Why:
        Units with equal [w; b] have equal z on every input, so W_next sees their sum
        only: one of them with the summed column is the same function. If they are
        read by equal weights too, training never parts them; else it will. (A ReLU
        unit whose [w; b] is c > 0 times another's is a copy as well; those are not
        looked for, because c does not survive rounding.)

    Evidence:
        copies of units: how many repeat an earlier unit; sets: of how many different
        units; bound: copies that are read by equal weights as well (0 where the
        readers are not known).
        chance: the expected number of equal pairs among random rows of this dtype.

    Args:
        share_up_to: the largest share of the layer that one set of equal units may
            have; beyond it the layer as a whole is symmetric, which is PB102.
        chance_below: the expected number of pairs that are equal by chance,
            units^2 / 2 * 2^-(bits of fraction * weights in a row), must be smaller:
            short rows in 8 or 16 bits coincide without any fault.

    Remedy:
        Merge each set into one unit and add up the columns that read it: `plumbob fix`
        does where it knows all that reads them. Or draw the copies anew to use them
        (`plumbob.apply` does, as large as the other units).

    Allow when:
        The layer has just been widened by copying, with noise to come.

    Example:
        >>> from nets import codes, duplicate_units
        >>> codes(duplicate_units(leans=True)), codes(duplicate_units(leans=False))
        ({'PB107'}, set())

    References:
        Sussmann (1992), Uniqueness of the weights for minimal feedforward nets with a
        given input-output map (reducible nets). Chen, Goodfellow and Shlens (2016),
        Net2Net, section 2.2 (widening by copies).
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        rows = reading.rows if reading else None
        if rows is None or site.kind not in {"linear", "conv", "conv-transpose"}:
            continue
        copies = (rows.twin != np.arange(site.out)) & (rows.norm > 0)
        if not copies.any():
            continue
        tensor = survey.tensors.get(site.weight)
        bits = FRACTION.get(tensor.dtype if tensor else "float32", 2) * site.fan_in
        chance = 2.0 ** max(2 * log2(site.out) - 1 - bits, -1000)
        largest = int(np.bincount(rows.twin[rows.norm > 0]).max())
        if chance >= chance_below or largest > share_up_to * site.out:
            continue
        bound, how = 0, "add up the columns that read them"
        if rows.outgoing_twin is not None:
            how = "plumbob fix --select PB107"
            bound = int(
                (copies & (rows.outgoing_twin == rows.outgoing_twin[rows.twin])).sum()
            )
        yield Finding(
            site=site.name,
            units=tuple(int(j) for j in np.flatnonzero(copies)),
            message="{copies} of {units} units {copies:repeats|repeat} {sets} "
            "{sets:other|others} bit for bit",
            cause="equal rows and biases, as copying leaves them"
            + (
                "; {bound} {bound:is|are} read by equal weights too and will never part"
                if bound
                else ""
            ),
            evidence={
                "copies": int(copies.sum()),
                "units": site.out,
                "sets": len(set(rows.twin[copies].tolist())),
                "bound": bound,
                "chance": chance,
            },
            remedy=redraw(
                survey,
                site,
                f"Merge each copy into its original ({how}), or draw the copies at "
                "random, as large as their neighbours.",
                rows=copies,
                columns=np.zeros(site.out, bool),
            ),
        )
