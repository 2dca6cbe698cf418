"""softmax(z + c 1) = softmax(z): only differences of logits count."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, centred, cleared
from plumbob.mending.plan import Plan


def centre_logits(plan: Plan) -> Iterator[Offered]:
    """Take the mean off biases and columns of weights that softmax reads.

    Why:
        Logits that are centred can be read and compared one by one.

    Exact when:
        In training and inference: the model itself returns what comes after the
        softmax (or after argmax, or differences), never the logits.

    Not when:
        The model returns its logits, as most classifiers do: whoever reads them sees
        the change, though a cross-entropy does not. A sigmoid, a soft cap of the
        logits or a penalty on them (z-loss) reads them. The output layer is the
        embedding too.

    Side effects:
        None but that the values differ: weights and biases sum to 0 over the classes.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1))
        >>> model[0].bias.data = torch.tensor([1.0, 2.0, 3.0, 6.0])
        >>> x = torch.randn(8, 3)
        >>> name = "centre-logits"
        >>> fixed, proof = plumbob.fix(model, x, goal="training", select=name)
        >>> fixed[0].bias.tolist(), bool(fixed[0].weight.sum(0).abs().max() < 1e-6)
        ([-2.0, -1.0, 0.0, 3.0], True)
        >>> torch.allclose(fixed(x), model(x), atol=1e-6)
        True

    References:
        Bridle (1990), Probabilistic interpretation of feedforward classification
        network outputs, with relationships to statistical pattern recognition.
    """
    ends = ("softmax", "argmax", "difference")
    for proof in plan.common(*ends):
        yield centred(plan, proof, rewrite="centre-logits", code="PB306")
    for proof in plan.null(*ends):
        yield cleared(plan, proof, rewrite="centre-logits", code="PB306")
