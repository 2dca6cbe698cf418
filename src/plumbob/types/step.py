"""What one step of the optimiser does, tried on a copy, and what is in its way."""

from collections.abc import Mapping
from dataclasses import dataclass

from plumbob.types.words import NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What the first step does to one parameter.

    `pulled` elements have a finite gradient other than 0; of them `still` keep their
    value, bit for bit, through all the steps that are tried. `broken` elements were
    finite, as their gradients, and are no longer. `change` is the norm of the step,
    `size` that of the parameter before.
    """

    pulled: int
    still: int
    broken: int
    change: float
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """What the loss adds to a parameter's gradient whatever the outputs are.

    `order` 2: 2 * strength * w, of strength * |w|^2; `order` 1: strength * sign(w), of
    strength * |w|; `order` 0: something else. `value` is that term of the loss.
    """

    order: int
    strength: float
    norm: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """What so many `steps` of one optimiser made of the loss of a few samples.

    `own`: the user's. `low` is the lowest loss met, `half` that of the first half of
    the steps that there are to be. It stops where the goal is
    reached, or where the loss is not finite.
    """

    optimizer: str
    own: bool
    lr: float
    steps: int
    half: float
    low: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overfit:
    """How far the loss of a few samples could be brought down, as often as was tried.

    `first` is the loss before, `constant` and `floor` those of the best constant output
    and of the best output for each sample by itself, None where they are not known.
    `goal` is the loss that counts as learnt: a quarter of the way from `constant` to
    `floor`, or a tenth below `first` where they are not known. The last try is the only
    one that may have reached it.
    """

    samples: int
    first: float
    goal: float
    tries: tuple[Try, ...]
    constant: float | None = None
    floor: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How parameters and loss change in the first steps, on one batch of `samples`.

    `moves` are empty where there is no optimiser, or no step can be tried. `losses`
    are before the first step and after each. `curvature` is the largest, over these
    steps, of the curvature met along the step in units of what would make it just
    end at the bottom: for plain SGD lr times a Rayleigh quotient of the Hessian, and
    so a lower bound of lr times its largest eigenvalue; above 2 the loss of a parabola
    rises. `share` is the part of the learning rate at which the loss falls without
    a leap, where it was looked for. `warming`: the learning rate is below the one that
    the groups begin with.

    `pulls` are the penalties within the loss by parameter, `data` the norm of each
    parameter's gradient without them. `clipping` is what the optimiser's hooks that
    clip make of an infinite gradient, by their code: "spreads" (all gradients become 0
    or NaN), "keeps" (the step is as broken as before, no more), "asks" (one looks
    whether it is finite), None without such a hook.
    """

    samples: int
    moves: Mapping[str, Move] = NOTHING
    losses: tuple[float, ...] = ()
    curvature: float = 0.0
    share: float | None = None
    warming: bool = False
    pulls: Mapping[str, Pull] = NOTHING
    data: Mapping[str, float] = NOTHING
    clipping: str | None = None
