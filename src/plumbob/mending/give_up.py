"""Parameters that have become 0 are taken away, or stay at 0."""

from collections.abc import Iterable
from typing import Literal

from torch import nn

Way = Literal["drop", "zero"]

AFFINE = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage]
FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


def can_go(model: nn.Module, parameter: str) -> bool:
    """Return whether the owner works without a parameter as if built without it."""
    path, _, last = parameter.rpartition(".")
    owner = model.get_submodule(path)
    above = model.get_submodule(path.rpartition(".")[0]) if path else owner
    if isinstance(above, FUSED):
        return False
    if last == "bias":
        return isinstance(owner, (*AFFINE, nn.LayerNorm))
    plain = isinstance(owner, (nn.LayerNorm, nn.RMSNorm))
    return plain and last == "weight" and getattr(owner, "bias", None) is None


def give_up(model: nn.Module, parameters: Iterable[str], way: Way) -> None:
    """Let go of parameters that are 0 throughout, or a norm's gain and 1.

    With "drop" they leave their module, which stays as if built without them; with
    "zero", and where the module cannot do without, they are frozen.
    """
    for name in parameters:
        path, _, last = name.rpartition(".")
        owner = model.get_submodule(path)
        value = getattr(owner, last)
        gain = last == "weight" and value is not None and bool((value == 1).all())
        if value is None or (value.any() and not gain):
            continue
        if way == "drop" and can_go(model, name):
            owner.register_parameter(last, None)
            if gain and isinstance(owner, (nn.LayerNorm, nn.RMSNorm)):
                owner.elementwise_affine = False
        else:
            value.requires_grad_(False)
            value.grad = None  # with one an optimiser would still move it
