"""PB314: units whose ReLU can fire on no input at all."""

from collections.abc import Iterator

import numpy as np

from plumbob.remedies import by_fix
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Survey


@rule(
    "PB314",
    "proved-dead-unit",
    Needs.GRAPH | Needs.WEIGHTS,
    Severity.INFO,
    since="0.1",
)
def proved_dead_unit(survey: Survey) -> Iterator[Finding]:
    """A unit's z is at most 0 for every possible input: its ReLU is 0 by proof.

    Why:
        What a map reads is often bounded whatever the network is fed: a ReLU gives
        nothing below 0, a sigmoid and a softmax lie in 0 to 1, a tanh in -1 to 1, no
        value of a layer norm is farther than sqrt(n - 1) gains from its bias, and a
        table has finitely many rows; a dropout divides what it leaves. Of what is not
        proved so, in training as in inference, nothing is said. Then z = w.x + b is at
        most b plus, for each weight, the larger of its products with the two ends;
        zeros that a convolution is padded with count as inputs. Where that is 0 or less
        the unit gives 0 for every input, not only for those seen. In inference it and
        what it feeds can be removed without a change; in training it has no gradient,
        and only a change of the layers before it, or decay, can bring it back.

    Evidence:
        dead of units: those proved; unit and highest: the one whose bound is lowest,
        and that bound.

    Remedy:
        Prune these units, as `plumbob fix` does for inference, or give them another
        start. Pruning changes the shape of two layers. Where data were given, `dead-
        relu` offers to revive them.

    Allow when:
        The units were pruned on purpose by their biases.

    Example:
        >>> from nets_redundancy import proved_dead_unit as case
        >>> from netting import codes
        >>> "PB314" in codes(case(leans=True)), "PB314" in codes(case(leans=False))
        (True, False)

    References:
        Moore, Kearfott and Cloud (2009), Introduction to interval analysis, section
        5. Serra, Kumar and Ramalingam (2020), Lossless compression of deep neural
        networks, section 4.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        if (
            site.activation not in {"relu", "relu6"}
            or site.norm is not None
            or reading is None
            or reading.ceiling is None
        ):
            continue
        dead = reading.ceiling <= 0
        if not dead.any():
            continue
        worst = int(reading.ceiling.argmin())
        yield Finding(
            site=site.name,
            units=tuple(int(unit) for unit in np.flatnonzero(dead)),
            message="{dead} of {units} {units:unit|units} can fire on no input "
            "(unit {unit}: z is at most {highest})",
            cause="the inputs of this map are bounded, and no combination of them "
            "lifts w.x above -b",
            evidence={
                "dead": int(dead.sum()),
                "units": len(dead),
                "unit": worst,
                "highest": float(reading.ceiling[worst]),
            },
            remedy=by_fix(
                survey, "Prune these units {fix}, or give them another start.", "PB314"
            ),
            steps=(
                "in inference null: nothing depends on their weights",
                "in training null as long as the layers before it stay as they are",
            ),
        )
