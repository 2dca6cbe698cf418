"""All that nothing sees is taken away: what is fixed, against the Jacobian's rank."""

import pytest
import torch

from families import FAMILIES
from fixing import VALUES, mended
from nullity import Jacobian, doubles, randomised

# transformers warns of what it dislikes in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def held(before, after):
    """Return how many directions of the vectors are fixed: rows at 0, or the mean."""
    fixed = 0
    left = dict(after.named_parameters())
    for name, p in before.named_parameters():
        if p.ndim != 1:
            continue
        now = left.get(name)
        zeros = p.numel() if now is None else int((now == 0).sum())
        centred = now is not None and zeros == 0 and abs(float(now.mean())) < 1e-15
        fixed += zeros + centred
    return fixed


@pytest.mark.parametrize(("family", "directions"), [("bert", 132), ("vit", 133)])
def test_as_many_directions_are_fixed_as_nothing_sees(family, directions):
    build, inputs, _ = FAMILIES[family]
    torch.manual_seed(0)
    model = randomised(build()).eval()
    inputs = doubles(inputs)
    true = Jacobian(model, **inputs).nullity
    result = mended(model, inputs, depth=11, select=VALUES)
    assert held(model, result.model) == true == directions
    # nothing is left of the others; a bias that is centred can still be moved
    centred = {"bert": 4, "vit": 5}[family]
    assert Jacobian(result.model, **inputs).nullity == centred
