"""Which parameters a rewrite may write to, and why not the others."""

from typing import Any

import torch
from torch import Tensor, nn

from plumbob.errors import InputError, did_you_mean
from plumbob.survey.parts import storage

WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "ScriptModule"}


def writable(
    model: nn.Module, name: str, *, frozen: bool = False, hollow: bool = False
) -> nn.Parameter:
    """Return a parameter that only this name stands for.

    It may be `frozen`, or not, and `hollow`, without values, or not.

    Raises:
        InputError: it is not there, frozen, shared with another module, computed from
            others, quantised, distributed, or holds no values.
    """
    plain(model, name, hollow=hollow)
    parameter = model.get_parameter(name)
    if not (frozen or parameter.requires_grad):
        raise InputError(
            _refusal(name, parameter, "it is frozen (requires_grad=False)")
        )
    low, high = _extent(parameter)
    for other, p in model.named_parameters(remove_duplicate=False):
        if other == name or storage(p) != storage(parameter):
            continue
        start, end = _extent(p)
        if start < high and low < end:
            raise InputError(_refusal(name, parameter, f"it is shared with {other}"))
    return parameter


def copyable(model: Any, *, trained: bool = False) -> None:
    """Refuse a model that cannot be mended, or that a copy would not be the same as.

    If it is to be `trained`, hooks on parameters count too.

    Raises:
        InputError: it is none of torch's, or in TorchScript, or has no values yet; or a
            parameter is distributed, or has hooks, or lies in the memory of another
            one, from which a copy would part it.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"expected a torch.nn.Module, got {type(model).__name__}; pass the model "
            "itself"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError(
            f"expected a model in Python, got {type(model).__name__}, which is in "
            "TorchScript; mend the model that it was made from"
        )
    met: dict[int, list[tuple[int, int, str]]] = {}
    for name, p in model.named_parameters():
        if type(p.data).__name__ == "DTensor":
            raise InputError(
                f"expected parameters that are whole, got {name}, a DTensor; mend the "
                "model before it is distributed"
            )
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise InputError(f"{name} has no shape yet; run a batch through the model")
        if p.is_meta:
            raise InputError(
                f"expected a model with values, got {name} on the meta device; load "
                "the weights first, or mend the files with fix_shards"
            )
        if trained and (p._backward_hooks or p._post_accumulate_grad_hooks):  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
            raise InputError(
                f"expected parameters without hooks, which a copy loses, got {name} "
                "with some; remove them, and register them on the mended model"
            )
        low, high = _extent(p)
        others = met.setdefault(storage(p), [])
        for start, end, other in others:
            if start < high and low < end:
                raise InputError(
                    f"expected parameters with memory of their own, got {name} in "
                    f"that of {other}; if they are tied, make them one parameter"
                )
        others.append((low, high, name))


def plain(model: nn.Module, name: str, *, hollow: bool = False) -> Tensor:
    """Return a parameter whose values can be read and mean what they say.

    It may be `hollow`, without values yet, or not.

    Raises:
        InputError: it is not there, computed from others, quantised, distributed, or
            holds no values.
    """
    owner, _, last = name.rpartition(".")
    known = dict(model.named_parameters(remove_duplicate=False))
    parameter = known.get(name)
    if parameter is None:
        sources = (f"parametrizations.{last}.", f"{last}_orig", f"{last}_g")
        prefix = f"{owner}." if owner else ""
        made = [n for n in known if n.startswith(tuple(prefix + s for s in sources))]
        if made:
            raise InputError(
                f"expected a parameter '{name}', which is computed from {made[0]}; "
                "remove the parametrisation first (remove_parametrizations)"
            )
        raise InputError(
            f"expected a parameter of {type(model).__name__}, got '{name}', which it "
            f"does not have.{did_you_mean(name, known)}"
        )
    wrapper = _wrapper(model, owner)
    for reason, applies in (
        (f"{wrapper} has taken it over: do this before wrapping the model", wrapper),
        (
            f"it is a {type(parameter).__name__}, not a plain tensor",
            type(parameter) is not nn.Parameter or type(parameter.data) is not Tensor,
        ),
        (
            "it is on the meta device, which holds no values",
            parameter.is_meta and not hollow,
        ),
        (
            f"it is {parameter.dtype}, no floating-point parameter",
            parameter.is_quantized or not parameter.is_floating_point(),
        ),
        (f"its layout is {parameter.layout}", parameter.layout != torch.strided),
    ):
        if applies:
            raise InputError(_refusal(name, parameter, reason))
    return parameter.detach()


def _wrapper(model: nn.Module, path: str) -> str:
    """Return the class of what wraps a module and keeps its parameters, or ""."""
    names = path.split(".") if path else []
    for end in range(len(names) + 1):
        module = model.get_submodule(".".join(names[:end]))
        for kind in type(module).__mro__:
            if kind.__name__ in WRAPPERS:
                return kind.__name__
    return ""


def _extent(t: Tensor) -> tuple[int, int]:
    """Return the range of a tensor in its memory, in bytes."""
    start = int(t.storage_offset())
    reach = sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
    size = t.element_size()
    return start * size, (start + reach + 1) * size if t.numel() else start * size


def _refusal(name: str, parameter: Tensor, reason: str) -> str:
    unknown = isinstance(parameter, nn.parameter.UninitializedParameter)
    shape = "" if unknown else f" {list(parameter.shape)}"
    return f"expected a parameter that can be written to, got {name}{shape}: {reason}"
