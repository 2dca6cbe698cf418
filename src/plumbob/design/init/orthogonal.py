"""Orthogonal weights: all singular values alike."""

import torch

from plumbob.survey.layers import Layer


def orthogonal(
    layer: Layer, *, generator: torch.Generator, gain: float = 1.0, parts: int = 1
) -> str:
    """Draw W uniformly among the matrices whose singular values are all `gain`.

    Why: a product of such matrices neither stretches nor shrinks any direction, so
    a recurrent layer can apply its own hundreds of times.

    The rows are orthonormal (times `gain`) where there are no more of them than
    columns, else the columns are. The groups of a grouped convolution are maps of
    their own.

    Args:
        layer: what is written.
        generator: the source of chance.
        gain: the singular values.
        parts: how many maps of equal size lie above each other in W: the gates of a
            recurrent layer, or query, key and value in one tensor.

    Returns:
        What was done, in one sentence.

    References:
        A. Saxe, J. McClelland and S. Ganguli (2014), Exact solutions to the nonlinear
        dynamics of learning in deep linear neural networks, section 3.
    """
    out, columns = layer.matrix().shape
    blocks = parts * layer.site.groups
    rows = out // blocks
    tall = torch.randn(
        (blocks, max(rows, columns), min(rows, columns)),
        generator=generator,
        dtype=torch.float32,
    )
    Q, R = torch.linalg.qr(tall)
    uniform = Q * R.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    W = uniform.mT if rows < columns else uniform
    layer.write(gain * W.reshape(out, columns))
    each = f", each of {blocks} parts" if blocks > 1 else ""
    return f"orthogonal, singular values {gain:.4g}{each}"
