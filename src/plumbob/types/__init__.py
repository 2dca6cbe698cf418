"""The nouns of plumbob: frozen dataclasses that every room shares, without torch.

Notation: an affine map is z = W x + b with W of shape (out, in). mu is the mean of
x, beta = b + W mu = E[z] the effective bias. Arrays are NumPy, float64 unless said.
"""

from plumbob.types.breaks import Break as Break
from plumbob.types.history import Course as Course
from plumbob.types.history import History as History
from plumbob.types.history import Log as Log
from plumbob.types.history import Losses as Losses
from plumbob.types.history import Mark as Mark
from plumbob.types.history import Passes as Passes
from plumbob.types.history import Window as Window
from plumbob.types.inputs import Act as Act
from plumbob.types.inputs import Fits as Fits
from plumbob.types.inputs import Inputs as Inputs
from plumbob.types.inputs import Numbers as Numbers
from plumbob.types.inputs import Reach as Reach
from plumbob.types.inputs import Targets as Targets
from plumbob.types.loss import Loss as Loss
from plumbob.types.measured import Activity as Activity
from plumbob.types.measured import Census as Census
from plumbob.types.measured import Gradient as Gradient
from plumbob.types.measured import Group as Group
from plumbob.types.measured import Moments as Moments
from plumbob.types.measured import Optimizer as Optimizer
from plumbob.types.measured import Output as Output
from plumbob.types.measured import Reading as Reading
from plumbob.types.measured import Rows as Rows
from plumbob.types.measured import Spectrum as Spectrum
from plumbob.types.proofs import Mode as Mode
from plumbob.types.proofs import Proof as Proof
from plumbob.types.proofs import independent as independent
from plumbob.types.proofs import leans as leans
from plumbob.types.response import Paths as Paths
from plumbob.types.response import Robustness as Robustness
from plumbob.types.runs import Change as Change
from plumbob.types.runs import Event as Event
from plumbob.types.runs import Run as Run
from plumbob.types.signals import Signals as Signals
from plumbob.types.sites import Feed as Feed
from plumbob.types.sites import Site as Site
from plumbob.types.step import Move as Move
from plumbob.types.step import Overfit as Overfit
from plumbob.types.step import Pull as Pull
from plumbob.types.step import Step as Step
from plumbob.types.step import Try as Try
from plumbob.types.survey import Survey as Survey
from plumbob.types.verdicts import Finding as Finding
from plumbob.types.verdicts import Remedy as Remedy
from plumbob.types.verdicts import Rule as Rule
from plumbob.types.words import NOTHING as NOTHING
from plumbob.types.words import Needs as Needs
from plumbob.types.words import Safety as Safety
from plumbob.types.words import Severity as Severity
from plumbob.types.words import Stage as Stage
