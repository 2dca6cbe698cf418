import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from plumbob.survey.graph import export
from plumbob.survey.masks import leaves_a_key
from theorems import Head, normals


def causal(n):
    return torch.arange(n)[:, None] >= torch.arange(n)


def closed(n):
    return causal(n) & (torch.arange(n)[:, None] > 0)


def added(n):
    return torch.zeros(n, n).masked_fill(~causal(n), -torch.inf)


def added_closed(n):
    return torch.zeros(n, n).masked_fill(~closed(n), -torch.inf)


def lowest(n):
    """A finite fill is a score as any other: the weights sum to one."""
    return torch.zeros(n, n).masked_fill(~closed(n), torch.finfo(torch.float32).min)


def mask_of(score, device="cpu"):
    graph = export(
        Head(score).to(device), (normals(2, 5, 8),), {}, training=False
    ).module.graph
    (node,) = (n for n in graph.nodes if "scaled_dot_product" in n.name)
    return node.args[3] if len(node.args) > 3 else None


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("mask", "leaves"),
    [
        (causal, True),
        (closed, False),
        (added, True),
        (added_closed, False),
        (lowest, True),
    ],
)
def test_masks_of_numbers_are_computed(mask, leaves, device):
    def score(q, k, v):
        m = mask(5).to(q.device) if device == "cpu" else mask(5)
        return scaled_dot_product_attention(q, k, v, attn_mask=m)

    with torch.device(device):
        assert leaves_a_key(mask_of(score, device)) is leaves


def test_a_mask_of_the_input_may_close_a_row():
    def score(q, k, v):
        return scaled_dot_product_attention(q, k, v, attn_mask=q[:, :, :5] > 0)

    assert not leaves_a_key(mask_of(score))


def test_no_mask_closes_none():
    assert leaves_a_key(mask_of(scaled_dot_product_attention))
