"""PB207: what the data tell apart is lost in a constant offset on the way down."""

from collections.abc import Iterator

import numpy as np

from plumbob.paths import chains
from plumbob.progress import learnt
from plumbob.remedies import draw_chain
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Site, Stage, Survey


@rule(
    "PB207",
    "signal-gain",
    Needs.ACTIVATIONS | Needs.GRAPH,
    Severity.WARNING,
    since="0.1",
    explains=("PB401", "PB402", "PB404"),
)
def signal_gain(
    survey: Survey,
    *,
    share_below: float = 1e-3,
    fall_above: float = 30.0,
    learnt_below: float = 0.1,
) -> Iterator[Finding]:
    """Deep in a chain of maps z is all but the same for every input.

    Why:
        z is what its unit shows to every input, E[z], and what tells inputs apart,
        sd[z]. Each activation that is not centred turns some of the second into the
        first, and small weights let only the first through, so that the share of sd
        in the size of z falls with depth: to 0.46 at the eighth layer of a healthy
        ReLU net begun by He's scheme. That is no fault. It is one where what is left
        is too little to learn from: every gradient is taken at nearly the same
        point, so that all the next maps can learn is a constant, and at 1e-7 the rest
        is float32's rounding. So it is one only where a next map reads it, and where
        what tells inputs apart does not come back behind it by another way, as where
        the map makes parameters: those of a transformer of images begin as the
        identity, all but the same for every input, and what they act on is whole.
        A net that has learnt has lost nothing that it needed, and one that has nothing
        to learn needs nothing; a trained net of which no loss is known may have, so
        there it is info.

    Evidence:
        share: the root of the mean var[z] over units, in that of the mean z^2; start
        the same at the chain's first map, maps before; sd and size the two parts;
        after: the largest share at the maps behind.

    Args:
        share_below: share from which it is told. Digits, 48 wide, begun with zero or
            small biases, epochs of Adam to 90 %: 3 at shares of 0.5, 6 to 11 at 6e-3
            (ReLU), 24 : 7 at 0.03 and 40 % lost after 25 epochs at 4e-3 (sigmoid);
            none that had less than 1e-3 trained in 25 epochs.
        fall_above: how many times as large the share was at the chain's first map.
            Where it is small from the start, the input is what has an offset. Of all
            maps behind as well: where one has more, it came back.
        learnt_below: share learnt from which training evidently works.

    Remedy:
        Draw the chain with the right gain, and with biases that take the constant
        out (`plumbob.apply` does, unless the first map is to keep its weights); or
        put norms between the maps.

    Allow when:
        The layer is meant to be constant on these data, such as a rarely open gate.

    Example:
        >>> from netting import codes
        >>> from nets_gradients import signal_gain
        >>> codes(signal_gain(leans=True)) >= {'PB207'}
        True
        >>> codes(signal_gain(leans=False))
        set()

    References:
        S. Schoenholz, J. Gilmer, S. Ganguli and J. Sohl-Dickstein (2017), Deep
        information propagation, section 3. X. Glorot and Y. Bengio (2010),
        Understanding the difficulty of training deep feedforward neural networks.
    """
    progress = learnt(survey)
    nothing_left = survey.output is not None and progress is None
    if nothing_left or (progress is not None and progress >= learnt_below):
        return
    for chain in chains(survey.sites):
        parts = [_parts(survey, site) for site in chain]
        shares = [part[0] / part[1] if part else 0.0 for part in parts]
        start = shares[0]
        for number, (site, part) in enumerate(zip(chain, parts, strict=True)):
            after = max(shares[number + 1 :], default=start)
            if parts[0] is None or part is None or site.is_output or site.norm:
                continue
            share = shares[number]
            if share >= share_below or start <= fall_above * max(share, after):
                continue
            yield Finding(
                site=site.name,
                message="what tells inputs apart is {share:.2g} of the size of z "
                f"(sd {{sd:.2g}}, size {{size:.2g}}); at {chain[0].name} {{start:.2g}}",
                cause="{maps} {maps:map|maps} without a norm or a residual sum turned "
                "the rest into a constant offset: weights too small for their "
                "activation, or an activation that is not centred",
                evidence={
                    "share": share,
                    "start": start,
                    "after": after,
                    "sd": part[0],
                    "size": part[1],
                    "maps": number,
                },
                remedy=draw_chain(
                    survey,
                    chain,
                    "Draw the chain's weights with variance 1 / (fan_in E[phi'^2]) "
                    "of the activation that each map reads, with biases that take its "
                    "value at 0 out; or put norms between the maps.",
                ),
                severity=Severity.INFO
                if progress is None and site.stage is Stage.TRAINED
                else Severity.WARNING,
            )
            break


def _parts(survey: Survey, site: Site) -> tuple[float, float] | None:
    """Return sd and size of z; None where nothing arrives, which others explain."""
    reading = survey.readings.get(site.name)
    if reading is None or reading.z is None or reading.rows is None:
        return None
    z = reading.z
    still = reading.x is None or not reading.x.var.any()
    if still or z.nonfinite.any() or not reading.rows.norm.any() or not z.count.all():
        return None
    size = float(np.sqrt((z.var + z.mean**2).mean()))
    return (float(np.sqrt(z.var.mean())), size) if size > 0 else None
