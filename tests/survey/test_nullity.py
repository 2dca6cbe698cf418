"""All that nothing sees, and only that: the proofs against the Jacobian's null space.

In float64, at random parameters, over all vectors at once. What is claimed must be
true; and in smooth nets all that is true must be claimed, each direction once.
"""

import pytest
import torch

from families import FAMILIES, words
from graphs import drawn
from nullity import Jacobian, doubles, randomised
from plumbob.survey.shift import proofs
from plumbob.survey.trace import export
from plumbob.types import independent

# transformers warns of what it dislikes in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
BIAS_DIRECTIONS = {"bert": 132, "vit": 133, "gpt2": 132, "llama": 16, "whisper": 133}


def examined(model, inputs, *, training, only=""):
    """Return the number of directions that are claimed, and the null space's size."""
    model = randomised(model).train(training)
    inputs = doubles(inputs)
    graph = export(model, (), inputs, training=training)
    mode = "training" if training else "inference"
    found = proofs(model, *((graph, None) if training else (None, graph)))
    oracle = Jacobian(model, **inputs, only=only)
    for proof in found:
        assert proof.error < 1e-9, proof
        if all(carrier in oracle.columns for carrier in proof.carriers):
            assert oracle.error(proof, getattr(proof, mode)) < 1e-9, proof
    return sum(p.directions for p in independent(found, mode)), oracle.nullity


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family):
    build, inputs, training = FAMILIES[family]
    torch.manual_seed(0)
    claimed, true = examined(build(), inputs, training=training)
    assert claimed == true
    assert claimed == BIAS_DIRECTIONS.get(family, claimed)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed):
    model, x = drawn(seed)
    # gains are left out: between two maps without a bend, one can make up for another
    training = seed % 2 == 0
    claimed, true = examined(model, {"input": x}, training=training, only="bias")
    assert claimed == true, model


def test_the_count_grows_as_the_model_does():
    """4 L d + 2 L: keys, values and two norms by d, two constants, in each layer."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2}
    config = BertConfig(**sizes, num_hidden_layers=3, vocab_size=50)
    model = BertModel(config, add_pooling_layer=False)
    assert examined(model, words(), training=False) == (3 * (4 * 8 + 2),) * 2
