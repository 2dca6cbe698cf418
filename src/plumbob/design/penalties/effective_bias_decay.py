"""A decay of what a unit feels, b + W mu, instead of b alone."""

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight
from torch.utils.hooks import RemovableHandle

from plumbob.errors import InputError
from plumbob.survey.modules import is_conv1d, module_sites
from plumbob.survey.names import site_name

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PATCHES: Mapping[int, Callable[..., Tensor]] = {
    1: conv1d_weight,
    2: conv2d_weight,
    3: conv3d_weight,
}


class EffectiveBiasDecay:
    """The sum of (b + W mu)^2 over all units, to be added to the loss.

    Why:
        b + W mu = E[z] is the threshold that counts; b alone also carries -W mu where
        the input is not centred. A decay of b takes that away and drives z off its
        centre: with a mean input of 5 it moves a tanh unit from a mean slope of 0.61
        to 0.0014, while this leaves 0.60. It is |D [W; b]|^2 with the last row of D
        (mu, 1), and plain decay of b where mu = 0.

    mu is the running mean of each map's input (of a convolution: of each tap's, with
    its padding), taken by hooks in training mode, as batch norm takes its own; no
    gradient flows into it. With several processes each has its own.

    Measured are Linear, Conv1d to Conv3d, Hugging Face's Conv1D, and the projections of
    MultiheadAttention's inputs. `unseen` says what is not and why: transposed
    convolutions, recurrent layers, and maps that no module call shows.

    Args:
        model: its forward passes in training mode are listened to, until `close` or
            the end of a `with` block. Nothing else of it is touched.
        strength: lambda.
        momentum: the share of the newest batch in mu; the first batch sets it whole.

    Raises:
        InputError: no map can be measured.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> with EffectiveBiasDecay(layer, strength=0.1) as decay:
        ...     z = layer(torch.full((8, 2), 5.0))
        >>> torch.allclose(decay(), 0.1 * z[0] ** 2)
        True
    """

    def __init__(
        self, model: nn.Module, *, strength: float, momentum: float = 0.1
    ) -> None:
        if not 0 < momentum <= 1:
            raise InputError(f"expected a momentum above 0, up to 1, got {momentum}")
        self.strength = strength
        self.momentum = momentum
        self.means: dict[str, Tensor] = {}
        self.unseen: dict[str, str] = {}
        self._maps: dict[str, tuple[nn.Module, str, str]] = {}
        self._handles: list[RemovableHandle] = []
        modules = dict(model.named_modules())
        for path, module in modules.items():
            above = modules[path.rpartition(".")[0]] if path else module
            inner = isinstance(above, nn.MultiheadAttention) and above is not module
            for weight in [] if inner else _weights(module):
                self._listen(site_name(f"{path}.{weight}".lstrip(".")), module, weight)
        for site in module_sites(model):
            if site.name not in self._maps and site.kind not in {"norm", "embedding"}:
                kind = type(modules[site.weight.rpartition(".")[0]]).__name__
                self.unseen[site.name] = f"no call of its {kind} shows its input"
        if not self._maps:
            raise InputError(
                f"expected a Linear, convolution or attention layer in "
                f"{type(model).__name__}, got none that can be measured"
            )

    def _listen(self, name: str, module: nn.Module, weight: str) -> None:
        packed = isinstance(module, nn.MultiheadAttention)
        self._maps[name] = (module, weight, "in_proj_bias" if packed else "bias")
        hook = partial(self._see, name)
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _see(
        self, name: str, module: nn.Module, args: Any, kwargs: Mapping[str, Any]
    ) -> None:
        if not module.training:
            return
        with torch.no_grad():
            mean = _mean(module, self._maps[name][1], args, kwargs)
            known = self.means.get(name)
            if known is None:
                self.means[name] = mean.nan_to_num(0, 0, 0)
                return
            known = known.to(mean)
            # an empty batch, or one that overflowed: no news; asked without a sync
            mean = torch.where(mean.isfinite(), mean, known)
            self.means[name] = known.lerp(mean, self.momentum)

    def __call__(self) -> Float[Tensor, ""]:
        """Return strength * sum (b + W mu)^2 over the maps that have run.

        Raises:
            InputError: none has run in training mode yet.
        """
        if not self.means:
            raise InputError(
                "expected a batch before the penalty, got none in training mode, so mu "
                "is not known; call model(batch) after model.train()"
            )
        terms = [self.bias(name).square().sum() for name in self.means]
        return self.strength * torch.stack(terms).sum()

    def bias(self, name: str) -> Float[Tensor, " out"]:
        """Return b + W mu of a map that has run, differentiable in W and b."""
        module, weight, bias = self._maps[name]
        W: Tensor = getattr(module, weight)
        b: Tensor | None = getattr(module, bias)
        mu = self.means[name].to(W)
        if isinstance(module, nn.MultiheadAttention):
            parts = W.unflatten(0, (len(mu), -1))
            shift = (parts @ mu[:, :, None]).flatten()
            if b is not None and len(b) != len(shift):  # separate projections
                part = ("q", "k", "v").index(weight[0])
                b = b.chunk(3)[part]
        elif isinstance(module, CONVOLUTIONS):
            parts = W.unflatten(0, (module.groups, -1)).flatten(2)
            shift = (parts @ mu.flatten(1)[:, :, None]).flatten()
        else:
            shift = mu @ W if is_conv1d(module) else W @ mu
        return shift if b is None else b + shift

    def state_dict(self) -> dict[str, Tensor]:
        """Return the running means."""
        return dict(self.means)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over running means.

        Raises:
            InputError: they belong to other maps.
        """
        if strange := state.keys() - self._maps.keys():
            raise InputError(
                f"expected means of {', '.join(self._maps)}, got one of "
                f"{min(strange)}; load the state of the same model"
            )
        self.means = {name: mean.clone() for name, mean in state.items()}

    def close(self) -> None:
        """Stop listening; what was measured is kept."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> "EffectiveBiasDecay":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _weights(module: nn.Module) -> list[str]:
    """Return the names of the weights that a call of the module applies to its input.

    They may be computed from others (weight norm).
    """
    if isinstance(module, nn.MultiheadAttention):
        names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        return [name for name in names if getattr(module, name) is not None]
    measured = isinstance(module, (nn.Linear, *CONVOLUTIONS)) or is_conv1d(module)
    return ["weight"] if measured else []


def _mean(
    module: nn.Module, weight: str, args: Any, kwargs: Mapping[str, Any]
) -> Tensor:
    """Return the mean input of a map, in the shape that its weights take it.

    Attention: one row for query, key and value each. A convolution: one patch for
    each group.
    """
    if isinstance(module, nn.MultiheadAttention):
        names = ("query", "key", "value")
        given = [*args[:3], *(kwargs[n] for n in names[len(args) :])]
        if weight != "in_proj_weight":
            given = [given[("q", "k", "v").index(weight[0])]]
        return torch.stack([_rows(x).mean(0) for x in given])
    x = args[0] if args else next(iter(kwargs.values()))
    if isinstance(module, CONVOLUTIONS):
        return _patch(module, x)
    return _rows(x).mean(0)


def _rows(x: Tensor) -> Float[Tensor, "rows features"]:
    return _wide(x).reshape(-1, x.shape[-1])


def _wide(x: Tensor) -> Tensor:
    """Return a detached tensor in float32 at least."""
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def _patch(
    module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor
) -> Float[Tensor, "groups taps ..."]:
    """Return the mean of what each tap reads: the gradient of the mean of z in W."""
    axes = len(module.kernel_size)
    x = _wide(x)
    x = x.mean(0, keepdim=True) if x.ndim == axes + 2 else x[None]
    pad = module._reversed_padding_repeated_twice  # pyright: ignore[reportPrivateUsage]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = functional.pad(x, pad, mode=mode)
    shape = (module.groups, x.shape[1] // module.groups, *module.kernel_size)
    sizes = x.shape[2:], module.kernel_size, module.dilation, module.stride
    places = [(n - d * (k - 1) - 1) // s + 1 for n, k, d, s in zip(*sizes, strict=True)]
    share = x.new_full((1, module.groups, *places), 1 / prod(places))
    return PATCHES[axes](
        x, shape, share, module.stride, 0, module.dilation, module.groups
    )
