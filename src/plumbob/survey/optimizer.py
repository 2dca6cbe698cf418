"""An optimiser, or several, as facts."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.types import Group, Optimizer

NOT_IN_MODEL = "?"

# Decay subtracts lr * weight_decay * w instead of adding it to the gradient. Torch's
# Adam, NAdam and RAdam say so themselves, group by group.
_DECOUPLED = ("AdamW", "SGDW", "Lion", "Muon", "Lamb", "Adafactor", "Adan", "Sophia")


def optimizer_facts(optimizer: Any, model: nn.Module) -> Optimizer:
    """Return the groups of an optimiser with the model's own names in them.

    Args:
        optimizer: anything with torch's `param_groups` and `state`, or a list, tuple
            or dict of them, which are merged.
        model: its parameters are found by identity; a parameter of an optimiser that
            is not the model's is named "?".

    Returns:
        Class names joined by " + ", the most steps that any parameter has taken as
        far as the state tells (plain SGD keeps none: 0), every group.

    Raises:
        InputError: it has no parameter groups.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> adam = torch.optim.AdamW(layer.parameters(), lr=0.5)
        >>> optimizer_facts(adam, layer).groups[0].parameters
        ('weight', 'bias')
    """
    names = {id(p): name for name, p in model.named_parameters()}
    several = list(each(optimizer))
    return Optimizer(
        name=" + ".join(dict.fromkeys(type(one).__name__ for one in several)),
        steps=max((steps(one.state) for one in several), default=0),
        groups=tuple(
            _group(one, group, names) for one in several for group in one.param_groups
        ),
    )


def each(optimizer: Any) -> Iterable[Any]:
    """Yield the optimisers in an optimiser, list, tuple or dict.

    Raises:
        InputError: something else is there.
    """
    if isinstance(optimizer, Mapping):
        optimizer = list(optimizer.values())
    if isinstance(optimizer, (list, tuple)):
        for one in optimizer:
            yield from each(one)
    elif hasattr(optimizer, "param_groups") and hasattr(optimizer, "state"):
        yield optimizer
    else:
        raise InputError(
            "expected a torch optimiser (or a list, tuple or dict of them), got "
            f"{type(optimizer).__name__}; pass the object whose step() you call"
        )


def settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a group says about its parameters, without them."""
    return {k: v for k, v in group.items() if k not in {"params", "param_names"}}


def _group(optimizer: Any, group: Mapping[str, Any], names: Mapping[int, str]) -> Group:
    says = group.get("decoupled_weight_decay")
    by_name = type(optimizer).__name__.startswith(_DECOUPLED)
    return Group(
        parameters=tuple(names.get(id(p), NOT_IN_MODEL) for p in group["params"]),
        lr=float(group.get("lr") or 0.0),
        weight_decay=float(group.get("weight_decay") or 0.0),
        decoupled=by_name if says is None else bool(says),
        momentum=float(group.get("momentum") or 0.0),
        eps=eps if isinstance(eps := group.get("eps"), float) else 0.0,
        maximize=bool(group.get("maximize")),
    )


def steps(state: Mapping[Any, Mapping[str, Any]]) -> int:
    """Return the largest "step"; a momentum without one proves at least one step."""
    found = [0]
    for kept in state.values():
        step = kept.get("step")
        if step is not None:
            found.append(int(step))
        elif any(isinstance(value, Tensor) for value in kept.values()):
            found.append(1)
    return max(found)
