"""What the model is fed, what it is to give, and its activations one by one."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Facts of a tensor of numbers. Extremes and moments are of its finite values.

    `feature_mean` and `feature_sd` are per number of one sample; None where a sample
    has more than 4096 or there are fewer than two. `whole` says that all are whole
    numbers.
    """

    name: str  # the place or keyword of an input
    shape: tuple[int, ...]  # of one sample
    samples: int
    nonfinite: int
    low: float
    high: float
    mean: float
    sd: float
    whole: bool
    feature_mean: Float[Any, " features"] | None = None
    feature_sd: Float[Any, " features"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Facts of the targets of all batches, beside the output that the loss reads.

    `kind` is "classes" (one label for each place of `classes` units), "one-hot",
    "binary", "multilabel" (0 and 1, one and several columns), "real", or "" where
    their form does not say. `distinct` counts different values, up to 1000; `outside`
    counts labels that name no unit, of `outside_values` different values.
    """

    kind: str
    numbers: Numbers
    distinct: int
    classes: int = 0
    outside: int = 0
    outside_values: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One activation of the graph.

    `site` is the map before it, with only activations, copies, reshapes and dropout
    between, and `before` the activations there, from the map on. `module` is the
    path of the module that is this operation and nothing else; None where there is
    none, or its work is done in several places. A softmax goes over `size` values
    that are the map's `over` "units", the batch's "samples", or "" neither for
    certain. `feeds` is the map that reads the result as its x, unit by unit. `ends`
    says that its result, as it is or through further activations, is what the loss
    reads; `alone` that no path leads round it from input to output.
    """

    name: str
    site: str | None = None
    before: tuple[str, ...] = ()
    module: str | None = None
    size: int = 0
    over: str = ""
    feeds: str | None = None
    ends: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the output that the loss reads can give, beside its targets.

    `low` and `high` bound it by its last activations. `outside` is the share of the
    targets beyond. The losses are of the targets themselves as the output
    (`at_target`), of the values in reach that are closest to them (`clipped`), of
    their mean (`constant`) and of the model (`model`).
    """

    low: float
    high: float
    outside: float
    at_target: float
    clipped: float
    constant: float
    model: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """How far the targets of the first batch follow from its inputs, by simple means.

    Errors are mean squares in units of the targets' variance, or shares of samples in
    the wrong class, a sixteenth of the samples in a row left out in turn: of the best
    affine map (`affine`), of a smooth function (`smooth`), with `sure`, the mean of
    their difference in standard errors of those blocks' means. `overlap`: samples are
    windows of one another, so that none is ever left out. `neighbour` is the squared
    difference from the target of the sample's nearest neighbour in units of
    what it is for shuffled targets, `lucky` and `luckiest` the 5 % and 0.1 % quantiles
    of that by shuffling.
    """

    samples: int
    features: int
    affine: float
    smooth: float
    sure: float
    neighbour: float
    lucky: float
    luckiest: float
    overlap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Facts of the inputs, of the targets, and of the operations that make outputs.

    `given` are the inputs that are floating-point numbers, of the first batch. `acts`
    are in execution order, empty where no graph is known; `affine` says that nothing
    bends between input and output but its last activations; `maps` is how many affine
    maps the longest way through it has.
    """

    samples: int
    given: tuple[Numbers, ...] = ()
    targets: Targets | None = None
    acts: tuple[Act, ...] = ()
    reach: Reach | None = None
    fits: Fits | None = None
    affine: bool = False
    maps: int = 0
