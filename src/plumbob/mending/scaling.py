"""A scale and a shift per unit, moved into the maps before or after them."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.mending.readers import Reader
from plumbob.survey.affine import Affine
from plumbob.survey.views import View
from plumbob.survey.writable import writable

Units = Float[Tensor, " units"]
Move = Callable[[nn.Module, Units, Units], None]


@torch.no_grad()
def into_rows(model: nn.Module, scale: Units, shift: Units, *, use: Affine) -> None:
    """Let a map give s z + t in place of z = W x + b."""
    values = _Values(model)
    matrix = values.matrix(use)
    matrix *= scale.view(*matrix.shape[:2], 1, 1)
    if (bias := values.bias(use)) is not None:
        bias *= scale
        bias += shift
    elif bool(shift.any()):
        values.new[use.weight.name] = shift
    values.write()


@torch.no_grad()
def into_columns(
    model: nn.Module, scale: Units, shift: Units, *, readers: Iterable[Reader]
) -> None:
    """Let maps that read x in place of s x + t give what they gave.

    Raises:
        InputError: they read units of another number.
    """
    values = _Values(model)
    for reader in readers:
        use = reader.use
        matrix = values.matrix(use)
        groups, _, features, _ = matrix.shape
        repeat = reader.lane.repeat
        if groups * features != repeat * len(scale):
            raise InputError(
                f"{use.weight.name} reads {groups * features} numbers, not "
                f"{len(scale)} units {repeat} times each"
            )
        own = [
            v.repeat_interleave(repeat).view(groups, 1, features, 1)
            for v in (scale, shift)
        ]
        moved = (matrix * own[1]).sum((2, 3)).flatten()
        matrix *= own[0]
        if (bias := values.bias(use)) is not None:
            bias += moved
        elif bool(moved.any()):
            values.new[use.weight.name] = moved
    values.write()


class _Values:
    """Parameters in float64 on the CPU (mps has none), written back all at once."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.wide: dict[str, Tensor] = {}
        self.new: dict[str, Tensor] = {}  # biases of the maps of some weights

    def matrix(self, use: Affine) -> Float[Tensor, "groups out in taps"]:
        """Return a view of a weight, the same for every kind of map."""
        raw = self._part(use.weight)
        if raw.dim() == 2:
            return (raw.T if use.transposed else raw)[None, :, :, None]
        parts = raw.unflatten(0, (use.groups, -1)).flatten(3)
        return parts.transpose(1, 2) if use.transposed else parts

    def bias(self, use: Affine) -> Units | None:
        """Return a view of a map's bias; one may have been added by now."""
        if use.bias is not None:
            return self._part(use.bias)
        path, _, _ = use.weight.name.rpartition(".")
        layer = self.model.get_submodule(path)
        if not isinstance(getattr(layer, "bias", None), Tensor):
            return None
        name = f"{path}.bias" if path else "bias"
        return self._part(View(name=name, axes=(0,)))

    def write(self) -> None:
        """Write what has changed."""
        for name, value in self.wide.items():
            self.model.get_parameter(name).copy_(value)
        for name, value in self.new.items():
            layer = self.model.get_submodule(name.rpartition(".")[0])
            weight = self.model.get_parameter(name)
            bias = nn.Parameter(value.to(weight), requires_grad=weight.requires_grad)
            layer.register_parameter("bias", bias)

    def _part(self, view: View) -> Tensor:
        name = view.name
        if name not in self.wide:
            raw = writable(self.model, name, frozen=True)
            self.wide[name] = (
                raw.detach().to("cpu", torch.float64, copy=True).contiguous()
            )
        wide = self.wide[name]
        if view.cut is None:
            return wide
        axis, low, high = view.cut
        return wide.narrow(axis, low, high - low)
