"""MEND: one file = one identity, and `certify`, the proof tool."""

from plumbob.rewrites.centre_before_group_norm import centre_before_group_norm
from plumbob.rewrites.centre_before_layer_norm import centre_before_layer_norm
from plumbob.rewrites.centre_logits import centre_logits
from plumbob.rewrites.drop_bias_before_batch_norm import drop_bias_before_batch_norm
from plumbob.rewrites.drop_bias_before_instance_norm import (
    drop_bias_before_instance_norm,
)
from plumbob.rewrites.drop_key_bias import drop_key_bias
from plumbob.rewrites.fold_layer_norm_beta import fold_layer_norm_beta
from plumbob.rewrites.fold_stacked_bias import fold_stacked_bias
from plumbob.rewrites.fold_value_bias import fold_value_bias
from plumbob.rewrites.merge_branch_biases import merge_branch_biases
from plumbob.rewrites.merge_rnn_biases import merge_rnn_biases

# In the order in which they are done: what others carry is moved before what nothing
# sees is taken away, so that nothing is moved into what has gone.
REWRITES = (
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
