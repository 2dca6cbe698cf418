"""Parameters that have become 0 are taken away, or stay at 0."""

from collections.abc import Iterable
from typing import Any, Literal

from torch import nn

from plumbob.survey.optimizer import each

Way = Literal["drop", "zero"]

AFFINE = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage]
FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


def can_go(model: nn.Module, parameter: str) -> bool:
    """Return whether the owner of a bias works without it as if built without."""
    path, _, last = parameter.rpartition(".")
    owner = model.get_submodule(path)
    above = model.get_submodule(path.rpartition(".")[0]) if path else owner
    kind = isinstance(owner, (*AFFINE, nn.LayerNorm))
    return kind and last == "bias" and not isinstance(above, FUSED)


def give_up(
    model: nn.Module, parameters: Iterable[str], way: Way, optimizer: Any = None
) -> None:
    """Let go of parameters that are 0 throughout; of others nothing.

    With "drop" they leave their module, which stays as if built with bias=False, and
    the optimisers; with "zero", and where the module cannot do without, they are
    frozen.
    """
    for name in parameters:
        path, _, last = name.rpartition(".")
        owner = model.get_submodule(path)
        bias = getattr(owner, last)
        if bias is None or bias.any():
            continue
        if way == "drop" and can_go(model, name):
            owner.register_parameter(last, None)
            for one in each(optimizer) if optimizer is not None else ():
                let_go(one, bias)
        else:
            bias.requires_grad_(False)


def let_go(optimizer: Any, parameter: nn.Parameter) -> None:
    """Take a parameter and its state out of an optimiser."""
    for group in optimizer.param_groups:
        kept = [p is not parameter for p in group["params"]]
        for key in {"params", "param_names"} & group.keys():
            group[key] = [v for v, stays in zip(group[key], kept, strict=True) if stays]
    optimizer.state.pop(parameter, None)
