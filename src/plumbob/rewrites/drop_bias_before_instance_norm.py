"""IN(z + b) = IN(z): an instance norm removes what is the same all over a channel."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, cleared, folded
from plumbob.mending.plan import Plan


def drop_bias_before_instance_norm(plan: Plan) -> Iterator[Offered]:
    """Take away a bias that an instance norm subtracts.

    Why:
        Nothing depends on it, in training or inference, and Adam moves it on
        rounding noise.

    Exact when:
        In training and inference: the norm uses the statistics of its input, and the
        bias is the same at all positions that it averages. Where it keeps running
        statistics, their mean gives the bias up for inference, so the norm must read
        this map and nothing but it, with nothing in between.

    Not when:
        An activation, a convolution that pads with zeros or an average pooling that
        counts its padding (PyTorch's default) stands between: at the border the bias
        is another one. The map has another reader.

    Side effects:
        A running mean moves by -b, so that inference is the same at once.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4))
        >>> x, name = torch.randn(8, 3, 6, 6), "drop-bias-before-instance-norm"
        >>> fixed, proof = plumbob.fix(model, x, goal="training", select=name)
        >>> proof.removed, proof.before, proof.after
        (('0.bias',), 112, 108)
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Ulyanov, Vedaldi and Lempitsky (2016), Instance normalization, section 2.
    """
    name = "drop-bias-before-instance-norm"
    for proof in plan.proofs:
        if proof.by == "instance-norm" and proof.direction == "each":
            sole = proof.norm or getattr(proof, plan.goal) == "null"
            move = cleared if sole else folded
            yield move(plan, proof, rewrite=name, code="PB302")
