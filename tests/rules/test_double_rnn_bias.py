import pytest
import torch
from torch import nn

import plumbob
from nets_redundancy import Last


def found(layer):
    case = {"model": Last(layer), "data": torch.randn(8, 5, 4)}
    return plumbob.check(**case, select="PB308").findings


@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTM, 4), (nn.RNN, 1), (nn.GRU, 2)])
def test_a_pair_is_one_finding(layer, gates):
    """A GRU's candidate has its hidden bias inside the product with the reset gate."""
    (finding,) = found(layer(4, 6, batch_first=True))
    assert finding.units == tuple(range(6 * gates))
    assert "added to layer.bias_" in finding.message


def test_each_layer_and_direction():
    model = Last(nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True))
    model.head = nn.Linear(12, 2)
    data = torch.randn(8, 5, 4)
    assert len(plumbob.check(model, data, select="PB308").findings) == 4


def test_none_without_biases():
    assert not found(nn.LSTM(4, 6, batch_first=True, bias=False))
