import pytest
from torch import nn

import plumbob
from nets_redundancy import Branches, duplicated_branch_bias
from theorems import normals


def found(model, *data):
    return plumbob.check(model, data, select="PB313").findings


def test_a_pair_is_one_finding():
    case = duplicated_branch_bias(leans=True)
    (finding,) = plumbob.check(**case, select="PB313").findings
    assert finding.site == "left.bias"
    assert finding.message == "16 elements of this bias are added to the bias of right"


class Bent(Branches):
    """One branch is bent before the sum, or the sum's branches are used alone."""

    def __init__(self, how):
        super().__init__(both=True)
        self.how = how

    def forward(self, x):
        left, right = self.left(x), self.right(x.tanh())
        if self.how == "relu":
            return self.head((left + right.relu()).relu())
        if self.how == "product":
            return self.head((left * right).relu())
        return self.head((left + right).relu()), left


@pytest.mark.parametrize("how", ["relu", "product", "alone"])
def test_what_is_bent_or_used_alone_counts(how):
    assert not found(Bent(how), normals(6, 8))


def test_residual_blocks_are_silent():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    assert not found(layer.eval(), normals(2, 5, 16))
