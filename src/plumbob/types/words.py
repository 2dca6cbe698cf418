"""The words that facts and verdicts share: how bad, when, how safe, what is known."""

from collections.abc import Iterator, Mapping
from enum import Enum, Flag, IntEnum, auto
from typing import Any


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
    INPUTS = auto()
    LOSS = auto()
    SIGNALS = auto()
    STEP = auto()
    SPECTRA = auto()
    OVERFIT = auto()
    LOSSES = auto()  # of a run's steps, one series
    VALIDATION = auto()  # losses on held-out data, along a run

    @property
    def words(self) -> list[str]:
        """The facts one by one, in lower case."""
        return [str(need.name).lower() for need in Needs if need in self]
