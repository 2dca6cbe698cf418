"""What check says of redundant biases before, and of none of them after."""

import pytest
import torch

import plumbob
from families import FAMILIES
from fixing import told
from nullity import randomised

CODES = {
    "bert": {"PB303", "PB304", "PB305", "PB309"},
    "vit": {"PB303", "PB304", "PB305", "PB309"},
    "lstm": {"PB308"},
    "mixer": {"PB305", "PB309"},
    "residual, inference": {"PB301", "PB313"},
}


def built(name):
    model = FAMILIES[name][0]()
    for owner, layers in ((model, "layers"), (getattr(model, "encoder", 0), "layer")):
        if hasattr(owner, layers):  # one is enough
            setattr(owner, layers, getattr(owner, layers)[:1])
    return randomised(model).float().eval()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of a config
@pytest.mark.parametrize("name", CODES)
def test_nothing_is_told_of_a_model_that_was_mended(name):
    torch.manual_seed(0)
    model, data = built(name), FAMILIES[name][1]
    assert {code for code, _ in told(model, data)} == CODES[name]
    fixed, proof = plumbob.fix(model, data)
    assert not any(refusal.code for refusal in proof.refused)
    assert not told(fixed, data)
