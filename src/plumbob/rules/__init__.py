"""The shelf of rules: one file each, sorted by code."""

from plumbob.rules.bias_cancels_mean import bias_cancels_mean
from plumbob.rules.dead_relu import dead_relu
from plumbob.rules.linear_relu import linear_relu
from plumbob.rules.non_finite_weight import non_finite_weight
from plumbob.rules.saturated_unit import saturated_unit
from plumbob.rules.uncentred_input import uncentred_input

RULES = (
    non_finite_weight,
    dead_relu,
    linear_relu,
    saturated_unit,
    uncentred_input,
    bias_cancels_mean,
)
