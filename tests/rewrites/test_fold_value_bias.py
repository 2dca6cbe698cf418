"""Value biases of heads that several queries share, against a closed form."""

import pytest
import torch

from fixing import mended, nothing_left
from theorems import REPEATS, Grouped, eager, normals

X = normals(3, 5, 8)
HOW = [
    *(({"repeats": name}, False) for name in ("enable_gqa", *REPEATS)),
    ({"repeats": "enable_gqa"}, True),
    ({"repeats": "repeat_interleave", "attend": eager}, True),
]


@pytest.mark.parametrize(("how", "packed"), HOW)
def test_the_output_projection_takes_each_value_once_per_query_head(how, packed):
    torch.manual_seed(0)
    model = Grouped(**how, packed=packed).double()
    bias = model.qkv.bias[24:] if packed else model.v.bias
    heads = bias.detach().view(2, 4)
    if how["repeats"] in {"repeat", "tile", "cat"}:
        each = heads.repeat(2, 1)
    else:
        each = heads[[0, 0, 1, 1]]
    moved = model.out.bias + model.out.weight @ each.flatten()
    result = mended(model, X.double(), depth=2, select="PB304")
    assert result.done == {"PB304": {"qkv.bias" if packed else "v.bias"}}
    torch.testing.assert_close(result.model.out.bias, moved, rtol=0, atol=1e-14)
    if packed:
        assert not result.model.qkv.bias[24:].any()
        assert torch.equal(result.model.qkv.bias[:24], model.qkv.bias[:24])
    else:
        assert result.model.v.bias is None
    nothing_left(result.model, X.double(), select="PB304")
