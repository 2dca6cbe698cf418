"""The nouns of plumbob: frozen dataclasses that every room shares, without torch.

Notation: an affine map is z = W x + b with W of shape (out, in). mu is the mean of
x, beta = b + W mu = E[z] the effective bias. Arrays are NumPy, float64 unless said.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, auto
from typing import Any

import numpy as np
from jaxtyping import Float, Int


class _Nothing(Mapping[Any, Any]):
    """An empty mapping; hashable, as the default of a dataclass's field must be."""

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    def __getitem__(self, key: Any) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


NOTHING: Mapping[Any, Any] = _Nothing()


class Severity(IntEnum):
    """How bad it is.

    ERROR: training cannot work or values are broken. WARNING: it costs accuracy or at
    least half as many epochs again. INFO: harmless, worth knowing.
    """

    INFO = 1
    WARNING = 2
    ERROR = 3


class Stage(Enum):
    """Whether a site still holds its initial values. Never guessed."""

    INIT = "init"
    TRAINED = "trained"
    UNKNOWN = "unknown"


class Safety(Enum):
    """What a remedy may break."""

    EXACT = "exact"  # the same function, in training and inference
    EVAL_ONLY = "eval-only"  # the same function in inference only
    CHANGES_TRAINING = "changes-training"
    MANUAL = "manual"


class Needs(Flag):
    """Facts that a rule must have, and that a survey knows."""

    WEIGHTS = auto()
    GRAPH = auto()
    ACTIVATIONS = auto()
    GRADIENTS = auto()
    TARGETS = auto()
    OPTIMIZER = auto()
    STAGE = auto()
    HISTORY = auto()

    @property
    def words(self) -> list[str]:
        """The facts one by one, in lower case."""
        return [str(need.name).lower() for need in Needs if need in self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One edge of the network: the next site that reads a site's units.

    Unit `c // repeat` reaches column `c` of the reader (`repeat` > 1 where an image
    is flattened). `repeat` is None where units are mixed or moved on the way.
    """

    site: str
    repeat: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One affine map and its neighbours, or a table (embedding) or a scale (norm).

    `rows` is the range of the weight parameter that this map uses, in units: the
    whole of it, or a part where a packed parameter is used in slices. `transposed`
    says that the parameter's first axis is the input: a table, a transposed
    convolution, Hugging Face's Conv1D, `x @ W`. `gates` says that the activation's
    result multiplies others. Neighbours are empty where no graph is known.
    """

    name: str
    kind: str  # linear, conv, conv-transpose, recurrent, embedding, norm
    out: int
    fan_in: int
    weight: str
    bias: str | None = None
    rows: tuple[int, int] | None = None
    groups: int = 1
    transposed: bool = False
    feeds: tuple[Feed, ...] = ()
    fed_by: tuple[str, ...] = ()
    activation: str | None = None  # relu, tanh, sigmoid, gelu, softmax, ...
    norm: str | None = None  # batch-norm, layer-norm, ...: directly after the map
    tied: tuple[str, ...] = ()
    trainable: bool = True
    stage: Stage = Stage.UNKNOWN
    reads_input: bool = False
    is_output: bool = False
    ends_residual: bool = False
    gates: bool = False


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
class Reading:
    """What was measured at one site. None: not measured.

    `samples` counts independent inputs (a batch of 8 sentences is 8, whatever their
    length). `shift` is W mu = E[z] - b. `saturated` counts values of z where the
    activation's slope is below 5 % of its steepest. `top` is the largest eigenvalue
    of E[(x,1)(x,1)'] as the data come and of the same with x centred (sites that
    read the model's input). `sample` is a thinned record of z and `weight` the matrix
    itself; both only where they were asked for. `called` says that weight and bias
    were read in calls of their own module and nowhere else, so that a hook on it sees
    every x and its bias counts nowhere else.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A theorem about rows of a parameter.

    `training` and `inference` are "null" (nothing sees it), "gauge" (another
    parameter can carry it) or None (it counts). `by` names what ends it: batch-norm,
    softmax-key, ... `error` is the largest change of the output, relative, in the
    randomised test in float64; None where the test could not be run. `norm` is the
    batch norm that reads the map and nothing but it: in inference its running mean
    can carry the rows as they are.
    """

    parameter: str
    rows: tuple[int, int]
    by: str
    training: str | None
    inference: str | None
    steps: tuple[str, ...]
    error: float | None = None
    on_this_path: bool = False  # from one recorded run, not from an exported graph
    norm: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Facts about one model, no verdicts.

    `unseen` maps what could not be measured (a parameter, a site, or a kind of fact
    by its name in `Needs` in lower case) to why. `bends` are the operations of the
    graph that are not affine and no site's activation. `said` is the stage as the
    user said it, where a site's own may come from evidence.
    """

    sites: tuple[Site, ...]
    known: Needs
    readings: Mapping[str, Reading] = NOTHING
    tensors: Mapping[str, Census] = NOTHING
    proofs: tuple[Proof, ...] = ()
    gradients: Mapping[str, Gradient] = NOTHING
    optimizer: Optimizer | None = None
    output: Output | None = None
    unseen: Mapping[str, str] = NOTHING
    bends: tuple[str, ...] = ()
    said: Stage = Stage.UNKNOWN
    about: Mapping[str, str | int | float] = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One imperative sentence, what following it may break, and what does it.

    `act` is the name of a rewrite or scheme; None: by hand.
    """

    advice: str
    safety: Safety = Safety.MANUAL
    act: str | None = None
    arguments: Mapping[str, Any] = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One verdict.

    A rule writes message, cause and advice as templates over the evidence
    (`{share:.0%}`, `{n} {n:unit|units}`), so no number is shown that is not evidence;
    code, name and the default severity are filled in by the rule that yields it.
    `own_cause` says that the evidence singles out a cause at this very place, so that
    no other finding explains it.
    """

    message: str
    cause: str
    evidence: Mapping[str, int | float]
    remedy: Remedy
    site: str | None = None
    units: tuple[int, ...] = ()
    severity: Severity | None = None
    steps: tuple[str, ...] = ()  # of the proof, where there is one
    own_cause: bool = False
    consequences: tuple["Finding", ...] = ()
    code: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A pure function from a survey to findings, with its card.

    `explains` lists the codes whose findings at the same site or downstream of it
    are its consequences.
    """

    code: str
    name: str
    needs: Needs
    severity: Severity
    since: str
    judge: Callable[..., Iterator[Finding]] = field(repr=False)
    explains: tuple[str, ...] = ()
