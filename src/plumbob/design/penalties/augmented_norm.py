"""One norm for a map's weights and bias together, each with its own say."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.errors import InputError, did_you_mean
from plumbob.survey.layers import Layer, layers
from plumbob.survey.modules import computed, module_sites

Scale = tuple[float, float] | Tensor


class AugmentedNorm:
    """|D [W; b]|^2 over the maps of a model, to be added to the loss.

    Why:
        z = W x + b is one matrix [W; b] applied to (x, 1). Ridge on D [W; b] is plain
        ridge after x_i is replaced by x_i / d_i and the constant 1 by 1 / d_b: so d_b
        says how large the constant feature is thought to be. d_b = 0 leaves the bias
        free; d_b = 1/s is the `intercept_scaling` s of liblinear. lambda |D [W; b]|^2
        is the negative logarithm of a Gaussian prior with variance 1 / (2 lambda d^2).

    Args:
        model: whose maps (linear, convolution, recurrent) count, not its norms and
            tables. A weight that two modules share counts once, and not at all where
            one of them is a table. Maps that cannot be read stand in `unseen`, with
            the reason.
        weight: d of every weight.
        bias: d of every bias.
        sites: other D for some maps: {glob over site names: (weight, bias)}, or a
            matrix of shape (any, fan_in + 1), which is applied to each unit's [w; b];
            a vector is a diagonal. The first glob that fits counts.

    Raises:
        InputError: there is no map, a glob fits none, or a matrix does not fit its map.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> with torch.no_grad():
        ...     _ = layer.weight.fill_(1.0), layer.bias.fill_(3.0)
        >>> float(AugmentedNorm(layer, bias=1 / 3)().detach())
        3.0
        >>> [g["weight_decay"] for g in AugmentedNorm(layer, bias=0.0).groups(0.01)]
        [0.02, 0.0]
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weight: float = 1.0,
        bias: float = 1.0,
        sites: Mapping[str, Scale] | None = None,
    ) -> None:
        self.model = model
        found, unseen = layers(model, module_sites(model))
        self.unseen = unseen | computed(model)
        found = {n: f for n, f in found.items() if f.site.kind != "embedding"}
        own = dict(sites or {})
        for glob in own:
            if not any(fnmatchcase(name, glob) for name in found):
                raise InputError(
                    f"expected a glob over {', '.join(found)}, got '{glob}', which "
                    f"fits none.{did_you_mean(glob, found)}"
                )
        if not found:
            raise InputError(
                f"expected a linear layer or convolution in {type(model).__name__}, "
                "got none whose weights can be read"
            )
        self.terms: list[tuple[Layer, Scale]] = []
        for name, layer in found.items():
            fits = [scale for glob, scale in own.items() if fnmatchcase(name, glob)]
            scale = fits[0] if fits else (weight, bias)
            if isinstance(scale, Tensor):
                _check(layer, scale)
            self.terms.append((layer, scale))

    def __call__(self) -> Float[Tensor, ""]:
        """Return the norm, differentiable in the weights and biases."""
        total = self.terms[0][0].weight.new_zeros(())
        for layer, scale in self.terms:
            if isinstance(scale, Tensor):
                total = total + _through(layer, scale)
                continue
            total = total + scale[0] ** 2 * layer.weight.square().sum()
            if layer.bias is not None:
                total = total + scale[1] ** 2 * layer.bias.square().sum()
        return total

    def groups(self, strength: float) -> list[dict[str, Any]]:
        """Return parameter groups whose weight decay is that of strength * norm.

        The gradient of strength * d^2 w^2 is 2 strength d^2 w: with SGD the steps are
        those of the norm in the loss. With a decoupled optimiser (AdamW) they are
        not, as a norm in the loss would be divided by the root of the second moment
        there; this is then the usual form of decay. Parameters outside the norm
        have decay 0; frozen ones are in no group.

        Raises:
            InputError: a D is a matrix, which no group can hold.
        """
        decay: dict[nn.Parameter, float] = {}
        for layer, scale in self.terms:
            if isinstance(scale, Tensor):
                raise InputError(
                    f"expected two numbers as D of {layer.site.name}, got a tensor "
                    f"{list(scale.shape)}, which no weight decay equals; add the norm "
                    "to the loss"
                )
            decay[layer.weight] = 2 * strength * scale[0] ** 2
            if layer.bias is not None:
                decay[layer.bias] = 2 * strength * scale[1] ** 2
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                groups.setdefault(decay.get(parameter, 0.0), []).append(parameter)
        return [{"params": p, "weight_decay": d} for d, p in groups.items()]


def _check(layer: Layer, matrix: Tensor) -> None:
    columns = layer.site.fan_in + 1
    if matrix.ndim not in {1, 2} or matrix.shape[-1] != columns:
        raise InputError(
            f"expected D of shape (any, {columns}) or ({columns},) for "
            f"{layer.site.name} with fan_in {layer.site.fan_in}, got "
            f"{list(matrix.shape)}; its last column is the bias's"
        )


def _through(layer: Layer, matrix: Tensor) -> Float[Tensor, ""]:
    """Return |D [w; b]|^2 summed over units."""
    W = layer.live()
    b = W.new_zeros(len(W)) if layer.bias is None else layer.bias.view(-1)
    both = torch.cat([W, b[:, None]], 1)
    matrix = matrix.to(both)
    return (both * matrix if matrix.ndim == 1 else both @ matrix.T).square().sum()
