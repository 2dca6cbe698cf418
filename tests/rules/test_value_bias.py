from collections import Counter

import pytest
import torch
from torch import nn

import plumbob
from healthy_transformers import minilm
from nets_redundancy import value_bias
from theorems import Attend, Head, bert, normals, tokens


def found(model, *data):
    return plumbob.check(model, data, select="PB304").findings


def test_the_finding():
    (finding,) = plumbob.check(**value_bias(leans=True), select="PB304").findings
    assert (finding.site, finding.units) == ("value.bias", tuple(range(8)))
    assert finding.message == "8 value biases are carried as well by out"
    assert finding.steps[0] == (
        "in training a gauge, other parameters can carry it; "
        "in inference a gauge, other parameters can carry it"
    )


def test_value_rows_of_a_packed_bias():
    (finding,) = found(Attend().eval(), normals(2, 5, 16))
    assert finding.site == "attend.in_proj_bias"
    assert finding.units == tuple(range(32, 48))


def test_bert_has_one_for_each_layer():
    """Dropout on the attention weights breaks it in training only."""
    model = bert(attention_probs_dropout_prob=0.1)
    findings = found(model, tokens())
    names = {f"encoder.layer.{i}.attention.self.value.bias" for i in range(2)}
    assert {f.site for f in findings} == names
    assert all(f.steps[0].startswith("in training not proved") for f in findings)


def sigmoid(q, k, v):
    return (q @ k.mT).sigmoid() @ v


def softmax_plus_one(q, k, v):
    scores = (q @ k.mT).exp()
    return scores / (1 + scores.sum(-1, keepdim=True)) @ v


def masked_after(q, k, v):
    weights = (q @ k.mT).softmax(-1)
    return weights.tril() @ v


def linear(q, k, v):
    return q.exp() @ (k.exp().mT @ v)


def plain(q, k, v):
    return (q @ k.mT / 8**0.5).softmax(-1) @ v


def causal(q, k, v):
    return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def sink(q, k, v):
    """A key and a value of zeros besides, which carry no bias."""
    zero = k.new_zeros(k.shape[0], 1, k.shape[2])
    return plain(q, torch.cat([k, zero], 1), torch.cat([v, zero], 1))


class Projected(Head):
    def __init__(self, score):
        super().__init__(score)
        self.o = nn.Linear(8, 3)

    def forward(self, x):
        return self.o(super().forward(x))


@pytest.mark.parametrize("score", [plain, causal])
def test_rows_that_sum_to_one(score):
    (finding,) = found(Projected(score), normals(2, 5, 8))
    assert finding.site == "v.bias"


@pytest.mark.parametrize(
    "score", [sigmoid, softmax_plus_one, masked_after, linear, sink]
)
def test_rows_that_do_not(score):
    assert not found(Projected(score), normals(2, 5, 8))


def test_not_where_no_bias_comes_after():
    model = Projected(plain)
    model.o = nn.Linear(8, 3, bias=False)
    assert not found(model, normals(2, 5, 8))


def test_minilm_has_as_many_value_as_key_biases():
    training = minilm(0)
    case = {"model": training.model, "data": training.batches[0]}
    report = plumbob.check(**case, select=["PB303", "PB304"])
    elements = Counter()
    for finding in report.findings:
        elements[finding.code] += finding.evidence["elements"]
        part = {"PB303": ".key.", "PB304": ".value."}[finding.code]
        assert part in finding.site
    assert elements == {"PB303": 2304, "PB304": 2304}
