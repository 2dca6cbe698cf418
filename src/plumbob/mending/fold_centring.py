"""The mean of a map's input is taken out of x and into the bias.

W x + b = W (x - m) + (b + W m), for every m. Zeros that a convolution pads with are
part of x: they are put there first, then m is subtracted everywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from plumbob.errors import InputError, did_you_mean
from plumbob.survey.guard import or_as_before
from plumbob.survey.modules import is_conv1d
from plumbob.survey.optimizer import each, settings_of
from plumbob.survey.writable import plain, writable

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
MEAN, SCALE = "input_mean", "input_scale"


@dataclass(frozen=True, slots=True)
class Centre:
    """Pads a layer's input with zeros and subtracts the layer's `input_mean`.

    What is left is divided by its `input_scale`, where it has one.

    `pad` is as `torch.nn.functional.pad` takes it; `trailing` the number of axes of x
    after the features.
    """

    pad: tuple[int, ...] = ()
    trailing: int = 0

    def __call__(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the layer's forward with x centred."""
        name = None if args else "x" if "x" in kwargs else "input"
        x = kwargs[name] if name else args[0]
        if isinstance(x, nn.utils.rnn.PackedSequence):
            x = x._replace(data=self._of(x.data, layer))
        else:
            x = self._of(functional.pad(x, self.pad) if self.pad else x, layer)
        return (args, {**kwargs, name: x}) if name else ((x, *args[1:]), kwargs)

    def _of(self, x: Tensor, layer: nn.Module) -> Tensor:
        axes = [1] * self.trailing
        x = x - layer.get_buffer(MEAN).view(-1, *axes)
        return (
            x / layer.get_buffer(SCALE).view(-1, *axes) if hasattr(layer, SCALE) else x
        )


def fold_centring(
    model: nn.Module,
    optimizer: Any = None,
    *,
    site: str,
    mean: Sequence[float],
    scale: Sequence[float] | None = None,
    keep: bool = True,
) -> None:
    """Let a layer compute W (x - mean) + b' in place of W x + b, in place.

    What `plumbob.apply` follows; `plumbob fix` measures the mean itself.

    The layer keeps its class and the names of its parameters. The mean becomes its
    buffer `input_mean`, in the state dict, and a scale its `input_scale`; a state dict
    fits a model that the same was done to. A mean of zeros prepares a new model to load
    one. Done again, the means and biases add up, so a mean of zeros changes nothing;
    scales multiply.

    Why:
        With x centred, the gradients of W and b do not disturb each other: the largest
        curvature falls by |mean|^2 times that of z, learning rates may grow as much,
        and b states a threshold instead of cancelling w.mean.

    Exact when:
        keep is True: for every x and every mean, in training and inference, but for
        rounding. Only what learning does from there on changes, as it should. Linear,
        Hugging Face's Conv1D, Conv1d to Conv3d with any padding, stride and groups,
        the first layer of LSTM, GRU and RNN, and their cells, where the model calls
        the layer and uses its parameters in no other way: `forward`, or the weight
        alone, pass the mean by. Padding zeros cost a copy of the padded input. Not
        for transposed convolutions, whose outputs get different numbers of taps.
        `torch.jit.trace` and `torch.export` carry the centring along;
        `torch.jit.script` and `quantize_dynamic`, which puts other layers in place of
        these, fail on the hook: do them to the model before.

    Args:
        model: what to change.
        optimizer: whoever trains it; where it holds the weight, it gets the bias of a
            layer that had none, in a group without decay.
        site: the layer, by its path or as the survey names it (`fc1`,
            `lstm.weight_ih_l0`).
        mean: one number per input feature, or per input channel of a convolution, of
            x as the layer's weights see it now.
        scale: numbers above 0, of as many, by which x - mean is divided: only with
            `keep=False`, as no bias takes a scale back.
        keep: keep the function: b' = b + W mean. A layer without a bias gets one. If
            False, b stays and the function changes, for a network before training: it
            starts as if the data had been centred, and zeros that a convolution
            pads with stand for the mean then.

    Raises:
        InputError: there is no such layer or it is of another kind; the mean does not
            fit; or a parameter is shared, frozen, parametrised, quantised or
            distributed.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
        >>> x = torch.randn(8, 2) + 5
        >>> before = model(x)
        >>> fold_centring(model, site="0", mean=x.mean(0).tolist())
        >>> torch.allclose(model(x), before, atol=1e-5), list(model.state_dict())
        (True, ['0.weight', '0.bias', '0.input_mean'])

    References:
        LeCun, Bottou, Orr and Müller (1998), Efficient BackProp, section 4.3.
    """
    path, layer = layer_of(model, site)
    maps = list(_maps(layer, path))
    weights = [plain(model, weight) for weight, _ in maps]
    hook = _hook(layer, keep=keep, site=site)
    known = layer._buffers.get(MEAN)  # pyright: ignore[reportPrivateUsage]
    features = _features(layer, weights[0])
    shift = _numbers(mean, features, site)
    old = torch.zeros_like(shift) if known is None else known.cpu().double()
    scales = layer._buffers.get(SCALE)  # pyright: ignore[reportPrivateUsage]
    per = torch.ones_like(shift) if scales is None else scales.cpu().double()
    new = (old + per * shift).to(weights[0])
    moved = (new.cpu().double() - old) / per
    divisor = None
    if scale is not None:
        divisor = (per * _numbers(scale, features, site)).to(weights[0])
        if keep or not bool((divisor > 0).all() and divisor.isfinite().all()):
            raise InputError(
                f"expected scales above 0 for the input of {site}, and keep=False, got "
                f"a lowest of {min(scale):g} and keep={keep}; leave out scale="
            )
    biases: dict[str, Tensor] = {}
    if keep and bool(moved.any()):
        for (_, name), weight in zip(maps, weights, strict=True):
            added = _apply(layer, weight, moved)
            if getattr(layer, name.rpartition(".")[2], None) is not None:
                added += writable(model, name).detach().cpu().double()
            elif isinstance(layer, RECURRENT):
                raise InputError(
                    f"expected a recurrent layer with biases, got {site}: it was built "
                    "with bias=False and cannot carry W mean; use keep=False"
                )
            biases[name.rpartition(".")[2]] = added.to(weight)
    if not all(bool(value.isfinite().all()) for value in (new, *biases.values())):
        raise InputError(
            f"expected a mean and b + W mean of {site} that are finite in {new.dtype}, "
            "got others; do it in float32, and look for weights that are not finite"
        )
    with or_as_before(layer), torch.no_grad():
        if known is not None:
            known.copy_(new)
        else:
            layer.register_buffer(MEAN, new)
            layer.register_forward_pre_hook(hook, with_kwargs=True)
            if hook.pad:
                layer.padding = (0,) * hook.trailing  # pyright: ignore[reportArgumentType]
        if divisor is not None and scales is not None:
            scales.copy_(divisor)
        elif divisor is not None:
            layer.register_buffer(SCALE, divisor)
        for name, value in biases.items():
            if getattr(layer, name, None) is not None:
                layer.get_parameter(name).copy_(value)
            else:
                weight = model.get_parameter(maps[0][0])
                bias = nn.Parameter(value, requires_grad=weight.requires_grad)
                layer.register_parameter(name, bias)
                if optimizer is not None:
                    _hand_over(optimizer, weight, bias, f"{path}.{name}")


def _numbers(values: Sequence[float], features: int, site: str) -> Float[Tensor, " in"]:
    """Return one number per feature.

    Raises:
        InputError: there are more or fewer, or they are not finite.
    """
    given = torch.tensor(values, dtype=torch.float64)
    if given.shape != (features,) or not bool(given.isfinite().all()):
        raise InputError(
            f"expected {features} finite numbers as the mean of the input of {site}, "
            f"got {list(given.shape)}; give one per input feature or channel"
        )
    return given


def _hand_over(
    optimizer: Any, weight: nn.Parameter, bias: nn.Parameter, name: str
) -> None:
    """Let whoever holds a weight hold its new bias too."""
    for one in each(optimizer):
        for group in list(one.param_groups):
            if any(p is weight for p in group["params"]):
                new = [(name, bias)] if "param_names" in group else [bias]
                plain = {"weight_decay": 0.0} if "weight_decay" in group else {}
                one.add_param_group({**settings_of(group), **plain, "params": new})


def layer_of(model: nn.Module, site: str) -> tuple[str, nn.Module]:
    """Return the path of a site's layer, and the layer.

    Raises:
        InputError: there is none, or it is one that cannot be centred.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    path = site if site in modules else site.rpartition(".")[0]
    layer = modules.get(path)
    weights = [] if layer is None else [weight for weight, _ in _maps(layer, path)]
    if layer is None or (path != site and not hasattr(layer, site.rpartition(".")[2])):
        raise InputError(
            f"expected the path of a layer, got '{site}', which {type(model).__name__} "
            f"does not have; part of a packed weight has no layer of its own."
            f"{did_you_mean(site, modules)}"
        )
    above = modules[path.rpartition(".")[0]] if path else layer
    # attention uses the weight of its out_proj without calling it
    reader = above if isinstance(above, nn.MultiheadAttention) else layer
    if reader is not layer or not weights or (path != site and site not in weights):
        raise InputError(
            f"cannot centre what '{site}' of {type(reader).__name__} reads: "
            "expected a Linear, Conv1d to Conv3d or Conv1D layer, or the first layer "
            "of an LSTM, GRU or RNN; centre what comes before it"
        )
    return path, layer


def _maps(layer: nn.Module, path: str) -> Iterator[tuple[str, str]]:
    """Yield weight and bias of the maps that read the layer's input."""
    dot = f"{path}." if path else ""
    forward = type(layer).forward
    if isinstance(layer, nn.RNNBase):
        for end in ("_l0", "_l0_reverse")[: 1 + layer.bidirectional]:
            yield f"{dot}weight_ih{end}", f"{dot}bias_ih{end}"
    elif isinstance(layer, nn.RNNCellBase):
        yield f"{dot}weight_ih", f"{dot}bias_ih"
    elif forward in {k.forward for k in (nn.Linear, *CONVOLUTIONS)} or is_conv1d(layer):
        yield f"{dot}weight", f"{dot}bias"


def _features(layer: nn.Module, weight: Tensor) -> int:
    groups = layer.groups if isinstance(layer, CONVOLUTIONS) else 1
    return weight.shape[0 if is_conv1d(layer) else 1] * groups


def _apply(
    layer: nn.Module, weight: Tensor, mean: Float[Tensor, " in"]
) -> Float[Tensor, " out"]:
    """Return W mean in float64 on the CPU (mps has none), summed over all taps."""
    matrix = weight.cpu().double()
    if isinstance(layer, CONVOLUTIONS):
        groups = layer.groups
        taps = matrix.flatten(2).sum(2).view(groups, -1, matrix.shape[1])
        return (taps @ mean.view(groups, -1, 1)).flatten()
    return mean @ matrix if is_conv1d(layer) else matrix @ mean


def _hook(layer: nn.Module, *, keep: bool, site: str) -> Centre:
    """Return the hook that is there, or the one to put there.

    Raises:
        InputError: `input_mean` is another's, or the padding lies after the mean.
    """
    hooks = layer._forward_pre_hooks.values()  # pyright: ignore[reportPrivateUsage]
    known = [hook for hook in hooks if isinstance(hook, Centre)]
    own = [name for name in (MEAN, SCALE) if hasattr(layer, name)]
    if own and not known:
        raise InputError(
            f"expected a layer without an attribute '{own[0]}', got {site}, which has "
            "one of its own; rename it"
        )
    pad: tuple[int, ...] = ()
    trailing = 0
    if isinstance(layer, CONVOLUTIONS):
        trailing = len(layer.kernel_size)
        pad = _padding(layer) if keep else ()
    if known and pad and not known[0].pad:
        raise InputError(
            f"cannot keep the function of {site}: it was centred with keep=False, so "
            "the zeros that it pads with stand for the mean; use keep=False again"
        )
    return known[0] if known else Centre(pad=pad, trailing=trailing)


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[int, ...]:
    """Return the zeros that a convolution puts around x, as `functional.pad` takes."""
    if layer.padding_mode != "zeros":
        return ()  # it pads with values of x, which are centred by then
    if isinstance(layer.padding, str):  # "same" or "valid", which has none
        pad = layer._reversed_padding_repeated_twice  # pyright: ignore[reportPrivateUsage]
    else:
        pad = [n for n in reversed(layer.padding) for _ in range(2)]
    return tuple(pad) if any(pad) else ()
