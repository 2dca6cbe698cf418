"""What a training run leaves behind: one log per measured step, and all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from plumbob.types.measured import Moments
from plumbob.types.words import NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What one step of the optimiser did to one parameter w. NaN: not measured.

    `size` is |w| before the step, `gradient` |g| as the optimiser got it (unscaled and
    clipped; infinite where not finite, NaN where there was none), `change` |dw|,
    `pull` w.g, `slope` g.dw, `along` w.dw. Of a large parameter they are those of a
    sample of it, scaled up to the whole. `moved` is |w - w at the start|, of vectors
    only. `swallowed` is the share of elements for which the optimiser's epsilon is
    above the root of its second moment. `decay` is the weight decay of its group.
    """

    numel: int
    size: float = nan
    gradient: float = nan
    change: float = nan
    pull: float = nan
    slope: float = nan
    along: float = nan
    moved: float = nan
    swallowed: float = nan
    lr: float = nan
    decay: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The units of one site from step `first` to `last`, both counted; they merge.

    `bias` is b at the end; `samples` counts independent inputs. `saturated` counts
    values of z where the activation's slope is below 5 % of its steepest, where it
    saturates and was known to in the whole window.
    """

    first: int
    last: int
    z: Moments
    samples: int = 0
    bias: Float[Any, " out"] | None = None
    saturated: Int[Any, " out"] | None = None

    def __add__(self, later: "Window") -> "Window":
        """Join a window to the next one."""
        return Window(
            first=self.first,
            last=later.last,
            z=self.z + later.z,
            samples=self.samples + later.samples,
            bias=later.bias,
            saturated=None
            if self.saturated is None or later.saturated is None
            else self.saturated + later.saturated,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """How often the model ran, by its mode and by whether gradients were recorded.

    `differs` says that the mode matters: it has dropout, or batch norm. `frozen` are
    batch norms that kept to their running statistics while the model trained and though
    their own gain is trained, `alone` those that trained on batches of one sample.
    `streak` are those `trained_in_eval` since the last pass in training mode,
    `repeated` those `tested_in_training` on the very input of the pass before (samples
    of one output), `norms` is how many batch norms keep running statistics.
    """

    training: int = 0  # in training mode, with gradients
    evaluating: int = 0  # in evaluation mode, without
    trained_in_eval: int = 0  # in evaluation mode, with gradients that were used
    tested_in_training: int = 0  # in training mode, without gradients
    streak: int = 0
    repeated: int = 0
    differs: bool = False
    norms: int = 0
    frozen: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What was measured at one step of a run; plain numbers, of all ranks together.

    `step` counts the optimiser's steps before it, so the first one is 0. `losses` are
    those of every step since the last log, as (step, value), by the name of what was
    trained on them ("loss" where there is one optimiser), `held` those without
    gradients: validation losses. `passes`, `looked`, `uncleared` and `skipped` are
    counted from the start: `looked` are steps whose backward passes were heard,
    `uncleared` those of them whose first pass found gradients of the step before, and
    `skipped` those that a gradient scaler left out. `apart` maps a parameter whose
    copies on the ranks differ to by how much of its size. `unheld` are parameters that
    got a gradient and are in no optimiser. `scale` is the factor of a scaled loss.
    `why` is "every", "start" or what was seen: "loss", "gradient", "end".
    """

    step: int
    seconds: float = 0.0
    losses: Mapping[str, tuple[tuple[int, float], ...]] = NOTHING
    held: tuple[tuple[int, float], ...] = ()
    marks: Mapping[str, Mark] = NOTHING
    windows: Mapping[str, Window] = NOTHING
    samples: int = 0
    passes: Passes = field(default_factory=Passes)
    looked: int = 0
    uncleared: int = 0
    skipped: int = 0
    apart: Mapping[str, float] = NOTHING
    unheld: tuple[str, ...] = ()
    scale: float = 1.0
    why: str = "every"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The marks of one parameter, one number per step of `History.steps`."""

    numel: int
    size: Float[Any, " logs"]
    gradient: Float[Any, " logs"]
    change: Float[Any, " logs"]
    pull: Float[Any, " logs"]
    slope: Float[Any, " logs"]
    along: Float[Any, " logs"]
    moved: Float[Any, " logs"]
    swallowed: Float[Any, " logs"]
    lr: Float[Any, " logs"]
    decay: Float[Any, " logs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Losses by the step they belong to, in order; a long run's are thinned."""

    steps: Int[Any, " known"]
    values: Float[Any, " known"]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A run so far: what `Log` says, joined.

    `steps` are those at which parameters were measured; `windows` are by site, one
    after the other, the later the finer. `taken` counts the optimiser's steps,
    `over` says that the training has ended. `constant` and `floor` are the losses of
    the best constant output and of the best output for each sample by itself, on the
    first batches; None where they are not known. `samples` is the number of inputs of
    each step, the median over the logs.
    """

    steps: Int[Any, " logs"]
    courses: Mapping[str, Course] = NOTHING
    windows: Mapping[str, tuple[Window, ...]] = NOTHING
    losses: Mapping[str, Losses] = NOTHING
    held: Losses | None = None
    taken: int = 0
    over: bool = False
    seconds: float = 0.0
    samples: int = 0
    constant: float | None = None
    floor: float | None = None
    passes: Passes = field(default_factory=Passes)
    looked: int = 0
    uncleared: int = 0
    skipped: int = 0
    apart: Mapping[str, float] = NOTHING
    unheld: tuple[str, ...] = ()
    scales: Float[Any, " logs"] = field(default_factory=lambda: np.zeros(0))

    @property
    def loss(self) -> Losses | None:
        """The losses where there is one series of them; of rivals (a GAN) none."""
        return next(iter(self.losses.values())) if len(self.losses) == 1 else None
