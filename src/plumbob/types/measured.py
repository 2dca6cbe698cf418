"""What is measured of tensors, maps, gradients and an optimiser."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from plumbob.types.words import NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Count, mean, squared deviations and extremes per unit; `a + b` merges them.

    `count` counts finite values, `positive` those above zero, `nonfinite` the rest.
    `low` is +inf and `high` -inf where nothing was counted.
    """

    count: Int[Any, " units"]
    mean: Float[Any, " units"]
    m2: Float[Any, " units"]
    low: Float[Any, " units"]
    high: Float[Any, " units"]
    positive: Int[Any, " units"]
    nonfinite: Int[Any, " units"]

    def __add__(self, other: "Moments") -> "Moments":
        """Merge by the pairwise update of Chan, Golub and LeVeque (1983)."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * share,
            m2=self.m2 + other.m2 + delta**2 * self.count * share,
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            positive=self.positive + other.positive,
            nonfinite=self.nonfinite + other.nonfinite,
        )

    @property
    def var(self) -> Float[Any, " units"]:
        """Population variance; 0 where nothing was counted."""
        return self.m2 / np.maximum(self.count, 1)

    @property
    def sd(self) -> Float[Any, " units"]:
        """Population standard deviation."""
        return np.sqrt(self.var)


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Whole-tensor facts. Moments and extremes are of the finite values."""

    shape: tuple[int, ...]
    dtype: str
    count: int
    zeros: int = 0
    nans: int = 0
    infs: int = 0
    mean: float = 0.0
    var: float = 0.0
    low: float = 0.0
    high: float = 0.0
    skew: float | None = None
    kurtosis: float | None = None
    quantiles: Mapping[float, float] = NOTHING  # probability -> value
    trainable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Facts of W (out, in) and b, unit by unit.

    `twin[j]` is the first unit whose [w; b] is bit for bit that of unit j (j itself
    where there is none). `outgoing` is the norm of all weights that read a unit and
    `outgoing_twin` the first unit read by identical weights; both None where the
    readers are not known one to one.
    """

    norm: Float[Any, " out"]
    columns: Float[Any, " in"]
    twin: Int[Any, " out"]
    bias: Float[Any, " out"] | None = None
    outgoing: Float[Any, " out"] | None = None
    outgoing_twin: Int[Any, " out"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """The largest singular value of W, and the root of the sum of all their squares.

    Some eigenvalue of W'W lies within `residual` of `top` squared; no step of the
    iteration can overshoot, so `top` is at most the true one.
    """

    top: float
    residual: float
    frobenius: float

    @property
    def stable_rank(self) -> float:
        """|W|_F^2 / top^2, from 1 (rank one) to the smaller side of W."""
        return (self.frobenius / self.top) ** 2 if self.top else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What an activation f makes of z, from a thinned record of at most 243 rows.

    `spread` is the mean of |f(z) - E f(z)|, `slope` that of |f'(z)| as a share of f's
    steepest slope.
    """

    median: Float[Any, " out"]  # of z
    spread: Float[Any, " out"]
    slope: Float[Any, " out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was measured at one site. None: not measured.

    `samples` counts independent inputs (a batch of 8 sentences is 8, whatever their
    length). `shift` is W mu = E[z] - b. `saturated` counts values of z where the
    activation's slope is below 5 % of its steepest. `top` is the largest eigenvalue
    of E[(x,1)(x,1)'] as the data come and of the same with x centred (sites that
    read the model's input). `sample` is a thinned record of z and `weight` the matrix
    itself; both only where they were asked for. `called` says that weight and bias
    were read in calls of their own module and nowhere else, so that a hook on it sees
    every x and its bias counts nowhere else. `ceiling` is what each unit's z is
    at most, for every possible input, in training as in inference. `ones` is an a with
    x.a = 1 for every x of the first batch, where there is one.
    """

    samples: int = 0
    rows: Rows | None = None
    x: Moments | None = None
    z: Moments | None = None
    shift: Float[Any, " out"] | None = None
    saturated: Int[Any, " out"] | None = None
    top: tuple[float, float] | None = None
    sample: Float[Any, "kept out"] | None = None
    weight: Float[Any, "out in"] | None = None
    grad_weight: Float[Any, " out"] | None = None  # norm of each row of dL/dW
    grad_bias: Float[Any, " out"] | None = None
    called: bool = False
    ceiling: Float[Any, " out"] | None = None
    ones: Float[Any, " in"] | None = None
    dtype: str | None = None
    activity: Activity | None = None  # where an elementwise activation follows
    spectrum: Spectrum | None = None

    def bias(self, units: int) -> Float[Any, " out"]:
        """Return b: as stored, else as it was added (a norm's), else zeros."""
        if self.rows is not None and self.rows.bias is not None:
            return self.rows.bias
        if self.z is not None and self.shift is not None:
            return self.z.mean - self.shift
        return np.zeros(units)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """The gradient of one parameter.

    `reached` is False where the loss has no path to it; a path along which the
    gradient happens to be zero is reached.
    """

    reached: bool
    norm: float = 0.0
    nonfinite: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One parameter group of an optimiser."""

    parameters: tuple[str, ...]
    lr: float
    weight_decay: float = 0.0
    decoupled: bool = False  # AdamW's decay rather than L2 in the gradient
    momentum: float = 0.0
    eps: float = 0.0  # what is added to the root of the second moment
    maximize: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """The optimiser as found: class name, steps taken (by its state), groups."""

    name: str
    steps: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What the output's bias could gain, measured through the user's own loss.

    All losses are per sample. `loss` is the model's, `shifted` the same after the
    best constant shift of the net input of the output, `zero` and `constant` those
    of a net input that is 0 and of the best constant one. `chance` is the gain
    that a shift fitted to so few samples shows where none is due, `floor` the loss
    of the best output for each sample by itself; None where that falls for ever.
    """

    site: str | None
    loss: float
    shifted: float
    zero: float
    constant: float
    shift: Float[Any, " units"]
    best: Float[Any, " units"]
    mean_output: Float[Any, " units"]
    mean_target: Float[Any, " units"] | None = None
    samples: int = 0
    chance: float = 0.0
    floor: float | None = None
