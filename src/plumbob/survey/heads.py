"""The last map of a model: where its bias lies, what it reads and gives."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from plumbob.errors import InputError, did_you_mean, one_line
from plumbob.survey.batches import Batch, batches
from plumbob.survey.guard import untouched
from plumbob.survey.links import LINKS, Linked, linked
from plumbob.survey.modules import is_conv1d
from plumbob.survey.parts import storage
from plumbob.survey.writable import plain

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = {
    nn.ConvTranspose1d: functional.conv_transpose1d,
    nn.ConvTranspose2d: functional.conv_transpose2d,
    nn.ConvTranspose3d: functional.conv_transpose3d,
}
_MAPS = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)


class Seen(NamedTuple):
    """What a head read in a run of its model, the targets, and the function after it.

    `linked` is None where the output is no tensor.
    """

    features: Tensor
    targets: Any
    linked: Linked | None


def find_head(head: nn.Module | str, model: nn.Module | None) -> Any:
    """Return an output map whose bias can be written, given it or its path.

    Raises:
        InputError: it is none, or its bias is missing, frozen, shared or no plain
            parameter.
    """
    modules = {} if model is None else dict(model.named_modules(remove_duplicate=False))
    if isinstance(head, str):
        if head not in modules:
            raise InputError(
                f"expected model= with a module {head!r}, got "
                f"{type(model).__name__}.{did_you_mean(head, modules)}"
            )
        path, layer = head, modules[head]
    else:
        path = next((name for name, m in modules.items() if m is head), None)
        layer = head
        if path is None and model is not None:
            raise InputError(
                f"expected a module of {type(model).__name__}, got another "
                f"{type(head).__name__}; pass the head of this very model, or its path"
            )
    _check_kind(layer, path)
    return _check_bias(layer, path, model, modules)


def _check_bias(
    layer: Any, path: str | None, model: nn.Module | None, modules: Mapping[str, Any]
) -> Any:
    """Return the layer if its bias is its own and may be written.

    Raises:
        InputError: it is not.
    """
    if layer.bias is None:
        raise InputError(
            f"{type(layer).__name__} {list(layer.weight.shape)} has no bias to write; "
            "make it with bias=True"
        )
    name = f"{path}.bias" if path else "bias"
    bias = plain(model if model is not None else layer, name)
    if not layer.bias.requires_grad:
        raise InputError(
            f"the head's bias {list(bias.shape)} is frozen; unfreeze it: "
            "head.bias.requires_grad_(True)"
        )
    for other, module in modules.items():
        others = module.parameters(recurse=False) if not [*module.children()] else ()
        if module is not layer and any(storage(p) == storage(bias) for p in others):
            raise InputError(
                f"expected a bias that only the head {path} uses, got {name} "
                f"{list(bias.shape)}, which {other} shares; give each its own"
            )
    return layer


def _check_kind(layer: nn.Module, path: str | None) -> None:
    """Refuse what is no linear map or convolution.

    Raises:
        InputError: it is none.
    """
    if isinstance(layer, _MAPS) or is_conv1d(layer):
        return
    inner = [n for n, m in layer.named_modules() if isinstance(m, _MAPS)]
    last = ".".join(filter(None, [path, inner[-1]])) if inner else ""
    raise InputError(
        f"expected a linear map or convolution, got {type(layer).__name__}; pass the "
        f"last map in it{', ' + repr(last) if inner else ''}"
    )


def units_last(layer: nn.Module) -> bool:
    """Say whether the units of a head's output lie on the last axis, or on axis 1."""
    return isinstance(layer, nn.Linear) or is_conv1d(layer)


def net_inputs(layer: Any, features: Tensor) -> Float[Tensor, "samples ..."]:
    """Return W x without the bias in float64 on the CPU, as the layer lays it out.

    Computed beside the layer: no hook runs, and half precision does not round it.

    Raises:
        InputError: the layer cannot read the features.
    """
    weight, x = (t.detach().cpu().double() for t in (layer.weight, features))
    try:
        if isinstance(layer, nn.Linear):
            return functional.linear(x, weight)
        if isinstance(layer, _CONVOLUTIONS):
            return layer._conv_forward(x, weight, None)  # pyright: ignore
        for kind, transposed in _TRANSPOSED.items():
            if isinstance(layer, kind):
                settings = (layer.stride, layer.padding, layer.output_padding)
                return transposed(  # pyright: ignore[reportArgumentType]
                    x, weight, None, *settings, layer.groups, layer.dilation
                )
        return x @ weight
    except RuntimeError as error:
        raise InputError(
            f"expected features that the head {list(weight.shape)} reads, got "
            f"{list(features.shape)}: {one_line(error)}; pass the head's own inputs"
        ) from error


def run(
    layer: Any,
    model: nn.Module,
    data: Any,
    *,
    targets: Any,
    loss: Any,
    limit: int | None,
) -> Seen:
    """Run the model on one batch or a loader's, and put what the head reads together.

    Args:
        layer: the head.
        model: what holds it; left as it is.
        data: what the training loop feeds, with targets unless they are given.
        targets: of all samples, or None: those of the data.
        loss: which needs the targets.
        limit: the largest number of batches; by default 32, or all that belong to the
            given targets.

    Raises:
        InputError: the data cannot be fed, hold no tensor of targets, the head is not
            called once by each batch, or the output is no known function of it.
    """
    given = targets is not None
    limit = limit or (2**31 if given else None)
    read: list[Tensor] = []
    aims: list[Any] = []
    link = None

    def reads(_: nn.Module, args: tuple[Any, ...]) -> None:
        read.append(args[0].clone())

    with untouched(model), torch.no_grad():
        layer.register_forward_pre_hook(reads)
        every = batches(model, data, loss=None if given else loss, limit=limit)
        for number, batch in enumerate(every, 1):
            model(*batch.args, **batch.kwargs)
            aims.append(batch.targets)
            if len(read) != number:
                raise InputError(
                    f"expected the head to be called once by {type(model).__name__}, "
                    f"got {len(read) - number + 1} calls; pass what it reads as "
                    "features="
                )
            if number == 1:
                features = read[:]
                link = _link(layer, model, batch)
                read[:] = features
    if not given:
        if not all(isinstance(aim, Tensor) for aim in aims):
            raise InputError(
                f"expected targets that are one tensor, got {type(aims[0]).__name__}; "
                "pass those of this head as y"
            )
        targets = torch.cat([aim.cpu() for aim in aims])
    return Seen(torch.cat(read), targets, link)


def _link(layer: Any, model: nn.Module, batch: Batch) -> Linked | None:
    """Recognise what follows the head, at a bias that tells tanh from the identity.

    Raises:
        InputError: the output is a tensor, but no known function of the head.
    """
    seen: list[Tensor] = []

    def gives(_: nn.Module, args: Any, z: Tensor) -> None:
        seen.append(z.clone())

    layer.register_forward_hook(gives)
    steps = torch.arange(1, len(layer.bias) + 1)
    layer.bias.copy_((0.5 + steps / len(steps)) * (-1.0) ** steps)
    outputs = model(*batch.args, **batch.kwargs)
    if not isinstance(outputs, Tensor):
        return None
    axis = -1 if units_last(layer) else 1
    same = seen[0].numel() == outputs.numel()
    found = linked(seen[0], axis, outputs, first="identity") if same else None
    if found is None:
        raise InputError(
            f"expected an output that is a known function of the head "
            f"({', '.join(LINKS)}), got {list(outputs.shape)} from a head that gives "
            f"{list(seen[0].shape)}; pass features= and a loss of the head's scores"
        )
    return found
