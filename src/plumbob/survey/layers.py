"""A site with the live tensors behind it: what schemes write to."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.types import Site

MAPS = {"linear", "conv", "conv-transpose", "recurrent", "embedding"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One affine map z = W x + b of a model, to be read and written in place.

    `module` is the module that owns the weight, `weight` and `bias` its parameters as
    they lie; the methods see only the rows that belong to the site.
    """

    site: Site
    module: nn.Module
    weight: nn.Parameter
    bias: nn.Parameter | None

    def matrix(self) -> Float[Tensor, "out in"]:
        """Return W as a copy, one row per unit, in the parameter's dtype."""
        return self.live().detach().clone()

    def live(self) -> Float[Tensor, "out in"]:
        """Return W with its gradient's path to the parameter."""
        raw = self._rows(self.weight)
        return self._units_in_the_middle(raw).movedim(1, 0).reshape(self.site.out, -1)

    def write(self, matrix: Float[Tensor, "out in"]) -> None:
        """Write W, given one row per unit."""
        raw = self._rows(self.weight.detach())
        outer, out, inner = self._units_in_the_middle(raw).shape
        values = matrix.reshape(out, outer, inner).movedim(0, 1)
        if self.site.transposed and self.site.groups > 1:
            groups = self.site.groups
            values = values.reshape(outer, groups, out // groups, inner).movedim(1, 0)
        raw.copy_(values.reshape(raw.shape))

    def fans(self) -> tuple[float, float]:
        """Return how many inputs a unit reads, and how many units read an input.

        Means over the places of a convolution: with stride s along each of d axes an
        input is read, or where it is transposed an output is written, by one tap of
        s^d.
        """
        site = self.site
        if site.kind not in {"conv", "conv-transpose"}:
            return float(site.fan_in), float(site.out)
        taps = prod(self.weight.shape[2:])
        stride = getattr(self.module, "stride", 1)
        strides = prod(stride) if isinstance(stride, tuple) else stride
        fan_in, fan_out = float(site.fan_in), site.out // site.groups * taps
        if site.transposed:
            return fan_in / strides, float(fan_out)
        return fan_in, fan_out / strides

    def vector(self) -> Float[Tensor, " out"] | None:
        """Return b as a copy, or None where the map has none."""
        view = self._bias()
        return None if view is None else view.clone()

    def shift(self, vector: Float[Tensor, " out"]) -> None:
        """Write b.

        Raises:
            ValueError: the map has no bias.
        """
        view = self._bias()
        if view is None:
            raise ValueError(f"{self.site.name} has no bias")
        view.copy_(vector)

    def _rows(self, raw: Tensor) -> Tensor:
        if self.site.rows:
            low, high = self.site.rows
            raw = raw[:, low:high] if self.site.transposed else raw[low:high]
        return raw

    def _bias(self) -> Tensor | None:
        if self.bias is None:
            return None
        raw = self.bias.detach().view(-1)
        if self.site.rows and raw.numel() != self.site.out:
            raw = raw[self.site.rows[0] : self.site.rows[1]]
        return raw

    def _units_in_the_middle(self, raw: Tensor) -> Float[Tensor, "outer out inner"]:
        site = self.site
        outer = raw.shape[0] if site.transposed else 1
        if site.transposed and site.groups > 1:  # (in, out / groups, ...)
            outer //= site.groups
            raw = raw.reshape(site.groups, outer, site.out // site.groups, -1)
            raw = raw.movedim(0, 1)
        return raw.reshape(outer, site.out, -1)


def layers(
    model: nn.Module, sites: Iterable[Site]
) -> tuple[dict[str, Layer], dict[str, str]]:
    """Return {site name: its layer}, and {site name: why it cannot be written}.

    Left out are norms, and weights that are computed (weight norm, LoRA), quantised,
    on the meta device, of a tensor subclass, or of an unknown layout.

    Raises:
        InputError: the model is a ScriptModule, whose modules cannot be told apart.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"expected a model of Python modules, got a {type(model).__name__}, whose "
            "modules cannot be told apart; do this before torch.jit.script"
        )
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found: dict[str, Layer] = {}
    unseen: dict[str, str] = {}
    for site in sites:
        if site.kind not in MAPS:
            continue
        weight = parameters.get(site.weight)
        if why := _why_not(site, weight):
            unseen[site.name] = why
            continue
        assert weight is not None
        bias = parameters.get(site.bias) if site.bias else None
        if bias is not None and not (site.rows or bias.numel() == site.out):
            bias = None  # shared with others in a way that is not known
        module = model.get_submodule(site.weight.rpartition(".")[0])
        found[site.name] = Layer(site=site, module=module, weight=weight, bias=bias)
    return found, unseen


def _why_not(site: Site, weight: nn.Parameter | None) -> str | None:
    if weight is None:
        return f"{site.weight} is no parameter of the model"
    if weight.is_meta:
        return f"{site.weight} is on the meta device, which holds no values"
    if weight.is_quantized or not weight.is_floating_point():
        return f"{site.weight} is {weight.dtype}, not a floating-point weight"
    if type(weight.data) is not torch.Tensor:
        return f"{site.weight} is a {type(weight.data).__name__}, not a plain tensor"
    if "parametrizations." in site.weight or "weight_v" in site.weight:
        return f"{site.weight} is a part from which the weight is computed"
    rows = site.rows[1] - site.rows[0] if site.rows else 0
    axis = 1 if site.transposed and weight.ndim > 1 else 0
    used = weight.numel() // weight.shape[axis] * rows if rows else weight.numel()
    if weight.ndim < 2 or used != site.out * site.fan_in:
        return f"{site.weight} of shape {tuple(weight.shape)} is not laid out as W"
    return None
