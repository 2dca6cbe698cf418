"""PB104: initial weights whose gains multiply to nothing, or to far too much."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from plumbob.paths import chains
from plumbob.progress import in_proportion
from plumbob.remedies import draw_chain
from plumbob.rule import rule
from plumbob.slopes import slope
from plumbob.types import Finding, Moments, Needs, Severity, Site, Stage, Survey

LONG = 3  # maps
SMALL_HEAD = 0.1  # a last map with less of a gain was begun near 0 on purpose


@rule(
    "PB104",
    "init-gain",
    Needs.ACTIVATIONS | Needs.GRAPH,
    Severity.WARNING,
    since="0.1",
    explains=(
        "PB204",
        "PB207",
        "PB211",
        "PB401",
        "PB402",
        "PB404",
        "PB503",
        "PB702",
        "PB703",
        "PB711",
        "PB718",
    ),
)
def init_gain(
    survey: Survey,
    *,
    sgd_below: float = 0.005,
    below: float = 2e-4,
    above: float = 30.0,
) -> Iterator[Finding]:
    """The initial gains along a chain of maps multiply to nearly 0, or explode.

    Why:
        A difference between two inputs, and the gradient on its way back, pass a map
        and the activation before it with the gain sqrt(fan_in E[w^2] E[phi'(z)^2]).
        Where neither a norm nor a residual sum lies between, the gains multiply: 0.4
        each, as torch's default leaves them with ReLU, is harmless over three maps
        and 5e-4 over eight. So the product along the chain is judged, never a layer.
        It is told only where the spread of z over the data has moved as far in the
        same direction: a factor in the activation or a norm without parameters would
        make up for small weights, and bounded activations hold large ones.

        With plain SGD a shrunken signal costs in proportion, since the lower maps'
        gradients are as small. Optimisers that divide by the gradient's size (Adam)
        feel it later, when the head has little to tell its inputs apart by. Maps that
        may have been trained are left to PB207 and PB401, which ask what came of it.

    Evidence:
        gain: the largest fall or rise along the chain, over maps maps; each: its
        geometric mean per map, where 1 keeps a signal; spread: what has become of the
        standard deviation of z over the data along the same maps. A last map whose
        own gain is below 0.1 is left out: such a head is begun near 0 on purpose.

    Args:
        sgd_below: product below which a plain SGD is told of (other optimisers and
            none: a note). Digits, 48 wide, epochs to 90 % with the gain right against
            with this product: SGD 3 : 5 at 0.1, 3 : 16 at 0.011 (torch's default with
            5 hidden ReLU layers), never at 0.004 in 25 epochs; with momentum 2 : 8,
            2 : 11, and never at 8e-4 (default, 8 layers). Set after seeing these.
        below: the same for any optimiser. Adam needed 3 : 5 at 0.004, 3 : 6 to 11 at
            8e-4, 3 : 14 at 5e-5 with ReLU, with sigmoid and tanh more than 25 epochs
            from 4e-4 and 7e-5 down.
        above: product from which it is too much: SGD and momentum fail at 60 and
            Adam needs 3 : 12; at 11 both train as before and Adam needs 3 : 7.

    Remedy:
        Draw all maps of the chain with the gain that the activation before each needs
        (`plumbob.apply` does, and takes the constant 1/2 that a sigmoid hands on out
        of the next bias): twelve sigmoid layers that never trained then take 2
        epochs with momentum, 4 with Adam.

    Allow when:
        The weights are placeholders: a checkpoint is loaded before training.

    Example:
        >>> from netting import codes
        >>> from nets_gradients import init_gain
        >>> codes(init_gain(leans=True)) >= {'PB104'}
        True
        >>> codes(init_gain(leans=False))
        set()

    References:
        K. He, X. Zhang, S. Ren and J. Sun (2015), Delving deep into rectifiers,
        section 2.2. S. Schoenholz, J. Gilmer, S. Ganguli and J. Sohl-Dickstein (2017),
        Deep information propagation, section 3.
    """
    for chain in chains(survey.sites):
        known = _known(chain, survey)
        if len(known) < LONG or any(s.stage is not Stage.INIT for s in known):
            continue
        gains = [_gain(a, b, survey) for a, b in pairwise(known)]
        if known[-1].is_output and gains[-1] < SMALL_HEAD:
            gains.pop()
        spreads = [_spread(survey, site) for site in known]
        first, last, gain = _furthest(gains)
        spread = spreads[last] / spreads[first] if spreads[first] > 0 else 0.0
        small = max(gain, spread) < sgd_below
        if gain == 0 or not (small or min(gain, spread) > above):
            continue
        fault = max(gain, spread) < below or not small or in_proportion(survey)
        part = known[first : last + 1]
        yield Finding(
            site=part[0].name,
            message="a signal is multiplied by {gain:.2g} on its way to "
            f"{part[-1].name}, {{each:.2g}} at each of {{maps}} maps",
            cause="the initial weights: 1 at each map would keep it, and neither a "
            "norm nor a residual sum makes up for it (the spread of z over the data is "
            "multiplied by {spread:.2g})"
            + ("" if fault else "; Adam and its kin bear that, plain SGD does not"),
            evidence={
                "gain": gain,
                "each": gain ** (1 / (last - first)),
                "maps": last - first,
                "spread": spread,
            },
            severity=Severity.WARNING if fault else Severity.INFO,
            remedy=draw_chain(
                survey,
                chain,
                "Draw the weights of the chain with variance 1 / (fan_in E[phi'^2]) "
                "of the activation that each map reads, or put norms or residual sums "
                "between the maps.",
            ),
        )


def _known(chain: Sequence[Site], survey: Survey) -> list[Site]:
    """Return the part of a chain, from its end, whose weights and z were measured."""
    known: list[Site] = []
    for site in reversed(chain):
        reading = survey.readings.get(site.name)
        if reading is None or reading.rows is None or _z(survey, site) is None:
            break
        known.insert(0, site)
    return known


def _z(survey: Survey, site: Site) -> Moments | None:
    z = survey.readings[site.name].z
    return z if z is not None and z.count.all() else None


def _gain(before: Site, site: Site, survey: Survey) -> float:
    rows = survey.readings[site.name].rows
    assert rows is not None
    size = float(np.sqrt((rows.norm**2).mean()))
    return size * slope(before.activation, _z(survey, before))


def _spread(survey: Survey, site: Site) -> float:
    z = _z(survey, site)
    return float(np.sqrt(z.var.mean())) if z is not None else 0.0


def _furthest(gains: Sequence[float]) -> tuple[int, int, float]:
    """Return where the product of neighbouring gains is furthest from 1."""
    products = [
        (i, j, float(np.prod(gains[i:j])))
        for i in range(len(gains))
        for j in range(i + 1, len(gains) + 1)
    ]
    return max(products, key=lambda p: abs(np.log(p[2])) if 0 < p[2] < np.inf else -1.0)
