"""The shelf of rules: one file each, sorted by code."""

from plumbob.rules.ascending import ascending
from plumbob.rules.bad_targets import bad_targets
from plumbob.rules.bias_before_batch_norm import bias_before_batch_norm
from plumbob.rules.bias_before_instance_norm import bias_before_instance_norm
from plumbob.rules.bias_cancels_mean import bias_cancels_mean
from plumbob.rules.bias_growth import bias_growth
from plumbob.rules.bias_in_input_span import bias_in_input_span
from plumbob.rules.bias_runaway import bias_runaway
from plumbob.rules.blind_layer import blind_layer
from plumbob.rules.cannot_overfit_batch import cannot_overfit_batch
from plumbob.rules.clipped_every_step import clipped_every_step
from plumbob.rules.constant_before_layer_norm import constant_before_layer_norm
from plumbob.rules.constant_logit import constant_logit
from plumbob.rules.dead_relu import dead_relu
from plumbob.rules.decayed_bias import decayed_bias
from plumbob.rules.decayed_raw_bias import decayed_raw_bias
from plumbob.rules.decayed_unit import decayed_unit
from plumbob.rules.degenerate_spectrum import degenerate_spectrum
from plumbob.rules.disconnected_parameter import disconnected_parameter
from plumbob.rules.dormant_unit import dormant_unit
from plumbob.rules.double_rnn_bias import double_rnn_bias
from plumbob.rules.doubled_activation import doubled_activation
from plumbob.rules.drift_of_null import drift_of_null
from plumbob.rules.duplicate_units import duplicate_units
from plumbob.rules.duplicated_branch_bias import duplicated_branch_bias
from plumbob.rules.duplicated_layer_norm_bias import duplicated_layer_norm_bias
from plumbob.rules.dying import dying
from plumbob.rules.exploding_gradient import exploding_gradient
from plumbob.rules.forgotten_parameter import forgotten_parameter
from plumbob.rules.gradients_not_cleared import gradients_not_cleared
from plumbob.rules.group_mean_before_group_norm import group_mean_before_group_norm
from plumbob.rules.implicit_bias import implicit_bias
from plumbob.rules.init_gain import init_gain
from plumbob.rules.input_scale import input_scale
from plumbob.rules.key_bias import key_bias
from plumbob.rules.labels_unrelated import labels_unrelated
from plumbob.rules.linear_relu import linear_relu
from plumbob.rules.logits_into_probability_loss import logits_into_probability_loss
from plumbob.rules.loss_for_task import loss_for_task
from plumbob.rules.loss_non_finite import loss_non_finite
from plumbob.rules.low_precision_bias import low_precision_bias
from plumbob.rules.misplaced_l2 import misplaced_l2
from plumbob.rules.missing_nonlinearity import missing_nonlinearity
from plumbob.rules.mode_slip import mode_slip
from plumbob.rules.non_finite_activation import non_finite_activation
from plumbob.rules.non_finite_gradient import non_finite_gradient
from plumbob.rules.non_finite_weight import non_finite_weight
from plumbob.rules.not_learning import not_learning
from plumbob.rules.oscillating_or_diverging import oscillating_or_diverging
from plumbob.rules.output_bias_prior import output_bias_prior
from plumbob.rules.output_range import output_range
from plumbob.rules.overfitting_gap import overfitting_gap
from plumbob.rules.parameter_never_moves import parameter_never_moves
from plumbob.rules.plateau import plateau
from plumbob.rules.prior_counted_twice import prior_counted_twice
from plumbob.rules.proved_dead_unit import proved_dead_unit
from plumbob.rules.replicas_out_of_sync import replicas_out_of_sync
from plumbob.rules.saturated_unit import saturated_unit
from plumbob.rules.shrinking_weights import shrinking_weights
from plumbob.rules.signal_gain import signal_gain
from plumbob.rules.silent_broadcast import silent_broadcast
from plumbob.rules.softmax_before_cross_entropy import softmax_before_cross_entropy
from plumbob.rules.softmax_over_one import softmax_over_one
from plumbob.rules.stacked_linear import stacked_linear
from plumbob.rules.starved_unit import starved_unit
from plumbob.rules.step_too_long import step_too_long
from plumbob.rules.step_too_short import step_too_short
from plumbob.rules.stuck_parameter import stuck_parameter
from plumbob.rules.sum_reduced_loss import sum_reduced_loss
from plumbob.rules.symmetric_units import symmetric_units
from plumbob.rules.uncentred_input import uncentred_input
from plumbob.rules.unfinished import unfinished
from plumbob.rules.unfolded_batch_norm import unfolded_batch_norm
from plumbob.rules.unsafe_clipping import unsafe_clipping
from plumbob.rules.unused_unit import unused_unit
from plumbob.rules.update_ratio import update_ratio
from plumbob.rules.value_bias import value_bias
from plumbob.rules.vanishing_gradient import vanishing_gradient

RULES = (
    non_finite_weight,
    symmetric_units,
    unused_unit,
    init_gain,
    low_precision_bias,
    decayed_unit,
    duplicate_units,
    degenerate_spectrum,
    dead_relu,
    linear_relu,
    saturated_unit,
    blind_layer,
    uncentred_input,
    bias_cancels_mean,
    signal_gain,
    non_finite_activation,
    implicit_bias,
    dormant_unit,
    bias_before_batch_norm,
    bias_before_instance_norm,
    key_bias,
    value_bias,
    constant_before_layer_norm,
    constant_logit,
    group_mean_before_group_norm,
    double_rnn_bias,
    duplicated_layer_norm_bias,
    stacked_linear,
    bias_in_input_span,
    unfolded_batch_norm,
    duplicated_branch_bias,
    proved_dead_unit,
    vanishing_gradient,
    exploding_gradient,
    non_finite_gradient,
    starved_unit,
    disconnected_parameter,
    bias_growth,
    decayed_bias,
    forgotten_parameter,
    step_too_long,
    decayed_raw_bias,
    misplaced_l2,
    unsafe_clipping,
    stuck_parameter,
    output_bias_prior,
    softmax_before_cross_entropy,
    input_scale,
    bad_targets,
    sum_reduced_loss,
    prior_counted_twice,
    missing_nonlinearity,
    cannot_overfit_batch,
    logits_into_probability_loss,
    softmax_over_one,
    output_range,
    loss_for_task,
    doubled_activation,
    silent_broadcast,
    loss_non_finite,
    not_learning,
    oscillating_or_diverging,
    update_ratio,
    gradients_not_cleared,
    bias_runaway,
    shrinking_weights,
    dying,
    drift_of_null,
    overfitting_gap,
    plateau,
    clipped_every_step,
    mode_slip,
    replicas_out_of_sync,
    parameter_never_moves,
    step_too_short,
    ascending,
    unfinished,
    labels_unrelated,
)
