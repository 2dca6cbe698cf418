"""How the loss behaves, whatever its class is called."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The loss as a function of the outputs and the targets, by its values.

    It was asked on `samples` of them, at the outputs as they are and at others; the
    model trains on `batch` at a time. All values are of the loss as it is returned.

    `reduction` is "mean" or "sum" over samples, or "other" (a contrastive loss is
    neither). `shift_free`: a constant added to all units of a sample changes nothing,
    as under a softmax; `scale_free`: nor does a positive factor. `blind`: it has no
    slope anywhere, as a softmax over one unit.

    `targets`: "classes" (whole numbers, one for several units), "one-hot", "shares"
    (rows that sum to one), "binary" (0 or 1, one for each unit), "levels" (few whole
    numbers from 0 on, for one unit), "numbers", or None: none of these. The target of
    a class is 1 at its unit, 0 at the others.

    `wants`, where the targets are classes, one-hot, shares or binary: "scores" (the
    real line: logits), "probabilities" (undefined or flat outside of 0 to 1),
    "log-probabilities" (linear in them), "numbers" (lowest where output and target
    agree: squared or absolute error) or None. `normalises`: among probabilities, those
    of a sample are divided by their sum.

    `link` is the function, known by its values, that made the outputs of the net
    input z of `site`, None where none fits. `low`, `high` and `sd` are the outputs'
    extremes and standard deviation, `outside` the share of them not in 0 to 1, `off`
    how far the sum over a sample's units is from one at most (of their exponentials,
    where the loss wants log-probabilities). `flat` is the share of samples on the wrong
    side without any slope, `broken` that of those whose slope is not finite. `gain` is
    the slope of the loss in z as a share of cross-entropy's, of outputs that are
    probabilities.

    `zero`: the loss of outputs that are all 0; `ones`: all 1; `exact`: of those that
    equal the targets; `constant`: that equal the mean target; `best`: the lowest of
    scores as large as need be. None where there is no such thing.

    `crossed`: every target is compared with every sample's output, by broadcasting.
    """

    samples: int
    batch: int
    units: int
    positions: int = 1  # at which a sample has outputs, as pixels
    reduction: str = "mean"
    shift_free: bool = False
    scale_free: bool = False
    blind: bool = False
    crossed: bool = False
    targets: str | None = None
    wants: str | None = None
    normalises: bool = False
    link: str | None = None
    site: str | None = None
    low: float = 0.0
    high: float = 0.0
    sd: float = 0.0
    outside: float = 0.0
    off: float = 0.0
    flat: float = 0.0
    broken: float = 0.0
    gain: float | None = None
    levels: int = 0  # different targets
    value: float | None = None  # of the outputs as they are; None: not finite
    zero: float | None = None
    ones: float | None = None
    exact: float | None = None
    constant: float | None = None
    best: float | None = None
