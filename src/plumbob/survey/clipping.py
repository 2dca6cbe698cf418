"""What the optimiser's hooks that clip gradients make of one that is not finite."""

from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Any

# What a hook names that asks, in whatever way, whether a norm or gradient is finite.
ASKS = {
    *("error_if_nonfinite", "isfinite", "isinf", "isnan", "isneginf", "isposinf"),
    *("nan_to_num", "nan_to_num_", "inf", "nan"),
}


def clipping(optimizers: Iterable[Any]) -> str | None:
    """Return "asks", "spreads" or "keeps"; None where no hook clips.

    The hooks are read, never run, since what they write to is the user's. One that
    names a clip_grad function of a norm spreads what is not finite over all gradients,
    but where a hook before a step also names what asks for that; clip_grad_value_
    keeps it where it is.
    """
    hooks = [_names(code) for one in optimizers for code in _codes(one)]
    named = set[str]().union(*hooks)
    clips = {name for name in named if "clip_grad" in name}
    if not clips:
        return None
    if named & ASKS:
        return "asks"
    return "spreads" if any("norm" in name for name in clips) else "keeps"


def _codes(optimizer: Any) -> Iterator[CodeType]:
    for hook in getattr(optimizer, "_optimizer_step_pre_hooks", {}).values():
        if isinstance(code := getattr(hook, "__code__", None), CodeType):
            yield code


def _names(code: CodeType) -> set[str]:
    """Return the globals, attributes, keywords and texts that a function's code has."""
    names = {*code.co_names, *code.co_freevars}
    for part in code.co_consts:
        if isinstance(part, CodeType):
            names |= _names(part)
        elif isinstance(part, str):
            names.add(part)
        elif isinstance(part, tuple):  # the names of keyword arguments
            names |= {one for one in part if isinstance(one, str)}
    return names
