"""All facts about one model."""

from collections.abc import Mapping
from dataclasses import dataclass

from plumbob.types.breaks import Break
from plumbob.types.history import History
from plumbob.types.inputs import Inputs
from plumbob.types.loss import Loss
from plumbob.types.measured import Census, Gradient, Optimizer, Output, Reading
from plumbob.types.proofs import Proof
from plumbob.types.response import Paths, Robustness
from plumbob.types.signals import Signals
from plumbob.types.sites import Site
from plumbob.types.step import Overfit, Step
from plumbob.types.words import NOTHING, Needs, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Facts about one model, no verdicts.

    `unseen` maps what could not be measured (a parameter, a site, or a kind of fact
    by its name in `Needs` in lower case) to why. `bends` are the operations of the
    graph that are not affine and no site's activation. `settled` are the proofs along
    whose directions nothing is left to take: 0 for good, or centred. `said` is the
    stage as the user said it, where a site's own may come from evidence. `overfit` is
    there where it was asked for, `history` where a run was watched, `first_break` where
    a value is not finite, `paths` and `robustness` where pictures are wanted.
    """

    sites: tuple[Site, ...]
    known: Needs
    readings: Mapping[str, Reading] = NOTHING
    tensors: Mapping[str, Census] = NOTHING
    proofs: tuple[Proof, ...] = ()
    settled: frozenset[Proof] = frozenset()
    gradients: Mapping[str, Gradient] = NOTHING
    optimizer: Optimizer | None = None
    output: Output | None = None
    inputs: Inputs | None = None
    loss: Loss | None = None
    signals: Signals | None = None
    step: Step | None = None
    overfit: Overfit | None = None
    history: History | None = None
    first_break: Break | None = None
    paths: Paths | None = None
    robustness: Robustness | None = None
    unseen: Mapping[str, str] = NOTHING
    bends: tuple[str, ...] = ()
    said: Stage = Stage.UNKNOWN
    about: Mapping[str, str | int | float] = NOTHING
