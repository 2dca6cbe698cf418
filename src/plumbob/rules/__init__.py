"""The shelf of rules: one file each, sorted by code."""

from plumbob.rules.bias_before_batch_norm import bias_before_batch_norm
from plumbob.rules.bias_cancels_mean import bias_cancels_mean
from plumbob.rules.dead_relu import dead_relu
from plumbob.rules.decayed_bias import decayed_bias
from plumbob.rules.decayed_unit import decayed_unit
from plumbob.rules.disconnected_parameter import disconnected_parameter
from plumbob.rules.duplicate_units import duplicate_units
from plumbob.rules.forgotten_parameter import forgotten_parameter
from plumbob.rules.key_bias import key_bias
from plumbob.rules.linear_relu import linear_relu
from plumbob.rules.non_finite_gradient import non_finite_gradient
from plumbob.rules.non_finite_weight import non_finite_weight
from plumbob.rules.output_bias_prior import output_bias_prior
from plumbob.rules.saturated_unit import saturated_unit
from plumbob.rules.symmetric_units import symmetric_units
from plumbob.rules.uncentred_input import uncentred_input
from plumbob.rules.unused_unit import unused_unit

RULES = (
    non_finite_weight,
    symmetric_units,
    unused_unit,
    decayed_unit,
    duplicate_units,
    dead_relu,
    linear_relu,
    saturated_unit,
    uncentred_input,
    bias_cancels_mean,
    bias_before_batch_norm,
    key_bias,
    non_finite_gradient,
    disconnected_parameter,
    decayed_bias,
    forgotten_parameter,
    output_bias_prior,
)
