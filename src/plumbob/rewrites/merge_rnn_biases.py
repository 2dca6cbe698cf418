"""W x + b_ih + U h + b_hh: only the sum of the two biases counts."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, folded
from plumbob.mending.plan import Plan


def merge_rnn_biases(plan: Plan) -> Iterator[Offered]:
    """Add one of the two biases of a recurrent cell to the other.

    Why:
        Two vectors do the work of one: twice the step, twice the decay.

    Exact when:
        In inference: in LSTM and RNN of any depth and direction, and in the reset and
        the update gate of a GRU.

    Not when:
        The candidate gate of a GRU: its hidden bias is inside the product with the
        reset gate (`W x + b_in + r * (U h + b_hn)`), and counts. Two cells share a
        bias. In training, where the two step and decay by themselves.

    Side effects:
        nn.LSTM and nn.GRU cannot do without one of the two, so it is 0 and frozen (in
        a GRU it is not frozen, as the candidate's part stays).

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model, x = nn.GRU(3, 2), torch.randn(5, 2, 3)
        >>> fixed, proof = plumbob.fix(model, x, select="merge-rnn-biases")
        >>> kept, both = model.bias_ih_l0[4:], model.bias_ih_l0 + model.bias_hh_l0
        >>> fixed.bias_ih_l0[:4].tolist(), torch.equal(fixed.bias_ih_l0[4:], kept)
        ([0.0, 0.0, 0.0, 0.0], True)
        >>> torch.allclose(fixed.bias_hh_l0[:4], both[:4])
        True
        >>> torch.allclose(fixed(x)[0], model(x)[0], atol=1e-6)
        True

    References:
        PyTorch, torch/nn/modules/rnn.py, where the second bias is there for cuDNN's
        sake. Cho et al. (2014), Learning phrase representations using RNN
        encoder-decoder, section 2.3, of whose cell PyTorch's candidate differs.
    """
    for proof in plan.gauges():
        if proof.by == "rnn":
            yield folded(plan, proof, rewrite="merge-rnn-biases", code="PB308")
