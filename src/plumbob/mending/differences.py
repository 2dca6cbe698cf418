"""What two models differ in."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

Names = tuple[str, ...]


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def differences(
    before: nn.Module, after: nn.Module
) -> tuple[Names, Names, Names, Names]:
    """Return which parameters and buffers are gone, new, of other values, frozen."""
    old, new = tensors_of(before), tensors_of(after)
    both = {name: (t, new[name]) for name, t in old.items() if name in new}
    return (
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name not in old),
        tuple(name for name, pair in both.items() if not same(*pair)),
        tuple(
            n for n, (a, b) in both.items() if a.requires_grad and not b.requires_grad
        ),
    )


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are of one kind and hold the same values."""
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def _kind(module: nn.Module) -> tuple[str, str]:
    """Return the name of a class: a copy of a traced model has a class of its own."""
    return type(module).__module__, type(module).__qualname__


def _reworded(old: nn.Module, new: nn.Module) -> str:
    """Return what a module says of itself that it did not say before, "" if nothing."""
    was, now = (m.extra_repr().split(", ") for m in (old, new))
    gone, come = ([w for w in a if w not in b] for a, b in ((was, now), (now, was)))
    if not gone:
        return f"{', '.join(come)} now" if come else ""
    now = f"is now {', '.join(come)}" if come else "no more"
    return f"{', '.join(gone)} {now}"


def side_effects_of(before: nn.Module, after: nn.Module) -> Iterator[str]:
    """Yield what changed in modules besides parameters and buffers."""
    known = dict(before.named_modules())
    for path, module in after.named_modules():
        place = path or type(module).__name__
        old = known.get(path)
        if old is None:
            yield f"{place}: a new {type(module).__name__}"
            continue
        if _kind(old) != _kind(module):
            yield f"{place}: {type(old).__name__} is now {type(module).__name__}"
        elif said := _reworded(old, module):
            yield f"{place}: {said}"
        hooks, had = (m._forward_pre_hooks for m in (module, old))  # pyright: ignore[reportPrivateUsage]
        for hook in list(hooks.values())[len(had) :]:
            yield f"{place}: runs {hook} before its forward"
    left = dict(after.named_modules())
    yield from (f"{path}: is gone" for path in known if path not in left)
