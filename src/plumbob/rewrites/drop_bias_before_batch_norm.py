"""(z + b) - mean(z + b) = z - mean(z): a batch norm removes the bias before it."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, cleared, folded
from plumbob.mending.plan import Plan


def drop_bias_before_batch_norm(plan: Plan) -> Iterator[Offered]:
    """Take away a bias that a batch norm subtracts with the batch's mean.

    Why:
        Its gradient is 0 but for rounding noise, which Adam scales up to whole
        steps. It is the bias of the map before the norm; that of a map after it
        counts. PyTorch takes neither away by itself.

    Exact when:
        In training and inference: in training the batch's mean takes the bias along;
        in inference the running mean gives it up, so the norm must read this map and
        nothing but it, with nothing in between.

    Not when:
        An activation, a dropout, a convolution that pads with zeros or a pooling that
        counts its padding stands between; the map is called twice, or has another
        reader (a skip past the norm); the norm is frozen in training, where its mean
        stays and b counts.

    Side effects:
        The norm's running mean moves by -b, so that inference is the same at once.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        >>> x, name = torch.randn(8, 3, 6, 6), "drop-bias-before-batch-norm"
        >>> fixed, proof = plumbob.fix(model, x, goal="training", select=name)
        >>> proof.removed, torch.equal(fixed[1].running_mean, -model[0].bias)
        (('0.bias',), True)
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)  # statistics of the batch
        True
        >>> torch.allclose(fixed.eval()(x), model.eval()(x), atol=1e-5)
        True

    References:
        Ioffe and Szegedy (2015), Batch normalization, section 3.2.
    """
    for proof in plan.proofs:
        if proof.by == "batch-norm" and proof.direction == "each":
            sole = proof.norm or getattr(proof, plan.goal) == "null"
            move = cleared if sole else folded
            yield move(plan, proof, rewrite="drop-bias-before-batch-norm", code="PB301")
