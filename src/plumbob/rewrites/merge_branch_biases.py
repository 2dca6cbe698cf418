"""(f(x) + b) + (g(x) + c) = f(x) + (g(x) + (b + c)): summed branches need one bias."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, folded
from plumbob.mending.plan import Plan

LAYER_NORMS = {"layer_norm", "native_layer_norm"}


def merge_branch_biases(plan: Plan) -> Iterator[Offered]:
    """Add the bias of one of two summed branches to that of the other.

    Why:
        Only the sum counts; each of them by itself means nothing.

    Exact when:
        In inference: the branches are added with nothing in between, and the other
        branch ends in a bias of its own.

    Not when:
        A branch is bent, gated, dropped (stochastic depth in training) or scaled by
        something that depends on the input before the sum. One of the two is read
        elsewhere too, or returned.

    Side effects:
        One bias has the sum of both, and what weight decay pulls on differs.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> class Branches(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.f, self.g = nn.Linear(3, 4), nn.Linear(3, 4)
        ...
        ...     def forward(self, x):
        ...         return (self.f(x) + self.g(x.tanh())).relu()
        >>> model, x = Branches(), torch.randn(8, 3)
        >>> fixed, proof = plumbob.fix(model, x, select="merge-branch-biases")
        >>> proof.removed, torch.allclose(fixed.g.bias, model.f.bias + model.g.bias)
        (('f.bias',), True)
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        He et al. (2016), Deep residual learning for image recognition, section
        3.
    """
    for proof in plan.gauges():
        if (
            proof.by == "bias"
            and "add" in proof.through
            and not ({"map", "attention"} & set(proof.through))
            and proof.source not in LAYER_NORMS
        ):
            yield folded(plan, proof, rewrite="merge-branch-biases", code="PB313")
