"""MEND: one file = one identity."""

from plumbob.rewrites.absorb_input_statistics import absorb_input_statistics
from plumbob.rewrites.absorb_linear_unit import absorb_linear_unit
from plumbob.rewrites.bias_into_input_span import bias_into_input_span
from plumbob.rewrites.centre_before_group_norm import centre_before_group_norm
from plumbob.rewrites.centre_before_layer_norm import centre_before_layer_norm
from plumbob.rewrites.centre_logits import centre_logits
from plumbob.rewrites.drop_bias_before_batch_norm import drop_bias_before_batch_norm
from plumbob.rewrites.drop_bias_before_instance_norm import (
    drop_bias_before_instance_norm,
)
from plumbob.rewrites.drop_key_bias import drop_key_bias
from plumbob.rewrites.fold_batch_norm import fold_batch_norm
from plumbob.rewrites.fold_centring import fold_centring
from plumbob.rewrites.fold_layer_norm_beta import fold_layer_norm_beta
from plumbob.rewrites.fold_layer_norm_gamma import fold_layer_norm_gamma
from plumbob.rewrites.fold_stacked_bias import fold_stacked_bias
from plumbob.rewrites.fold_value_bias import fold_value_bias
from plumbob.rewrites.layer_norm_to_rms_norm import layer_norm_to_rms_norm
from plumbob.rewrites.merge_branch_biases import merge_branch_biases
from plumbob.rewrites.merge_duplicate_units import merge_duplicate_units
from plumbob.rewrites.merge_rnn_biases import merge_rnn_biases
from plumbob.rewrites.merge_stacked_linear import merge_stacked_linear
from plumbob.rewrites.remove_dead_unit import remove_dead_unit
from plumbob.rewrites.threshold_to_bias import threshold_to_bias

# In the order in which they are done: what others carry is moved before what nothing
# sees is taken away, so that nothing is moved into what has gone.
REWRITES = (
    fold_batch_norm,  # before the bias of its map is given up to it
    drop_bias_before_batch_norm,
    threshold_to_bias,
    bias_into_input_span,
    fold_layer_norm_beta,
    fold_value_bias,
    fold_stacked_bias,
    merge_branch_biases,
    merge_rnn_biases,
    drop_bias_before_instance_norm,
    drop_key_bias,
    centre_before_group_norm,
    centre_before_layer_norm,
    centre_logits,
    layer_norm_to_rms_norm,
    fold_layer_norm_gamma,
    absorb_input_statistics,
    absorb_linear_unit,
    remove_dead_unit,
    merge_duplicate_units,
    merge_stacked_linear,
)

# Done only where it is named: it takes nothing away.
ON_DEMAND = (fold_centring,)

# Those that move values and keep all shapes: what they do to a tensor is known without
# the others, so that a checkpoint can be mended a block at a time.
OF_VALUES = (
    drop_bias_before_batch_norm,
    fold_layer_norm_beta,
    fold_value_bias,
    fold_stacked_bias,
    merge_branch_biases,
    merge_rnn_biases,
    drop_bias_before_instance_norm,
    drop_key_bias,
    centre_before_group_norm,
    centre_before_layer_norm,
    centre_logits,
)
