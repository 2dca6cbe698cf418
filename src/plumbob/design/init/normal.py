"""Normal weights of a given standard deviation."""

import torch

from plumbob.survey.layers import Layer


def normal(layer: Layer, *, generator: torch.Generator, sd: float = 0.02) -> str:
    """Draw W from N(0, sd^2); the row of a table that stands for padding is 0.

    Why: for tables, whose rows are looked up and not summed, no fan enters; 0.02 is
    what BERT and GPT-2 draw everything from.

    Args:
        layer: what is written.
        generator: the source of chance.
        sd: standard deviation.

    Returns:
        What was done, in one sentence.
    """
    W = torch.randn(layer.matrix().shape, generator=generator, dtype=torch.float32)
    padding = getattr(layer.module, "padding_idx", None)
    said = ""
    if layer.site.kind == "embedding" and padding is not None:
        W[:, padding] = 0
        said = f", row {padding} (padding) 0"
    layer.write(W * sd)
    return f"N(0, {sd:.4g}^2){said}"
