"""A caller's own groups, kept as they are."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from plumbob.errors import InputError


def taken(own: Iterable[Any], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the caller's groups with their parameters as lists.

    Args:
        own: dicts with "params": a tensor or an iterable of them, or of (name, tensor).
        names: of the model's parameters by identity.

    Raises:
        InputError: a group is no such dict, or a parameter stands in two places.
    """
    kept: list[dict[str, Any]] = []
    seen: dict[int, int] = {}
    for number, group in enumerate(own):
        if not isinstance(group, Mapping) or "params" not in group:
            raise InputError(
                f"expected own= to hold dicts with 'params', got {_say(group)} as "
                f"group {number}"
            )
        params = group["params"]
        parts: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        parts = [part[1] if isinstance(part, tuple) else part for part in parts]
        for part in parts:
            if not isinstance(part, Tensor):
                raise InputError(
                    f"expected parameters in group {number} of own=, got {_say(part)}; "
                    "pass the tensors, not their names"
                )
            if id(part) in seen:
                name = names.get(id(part), f"a tensor of shape {tuple(part.shape)}")
                raise InputError(
                    f"expected each parameter in one group, got {name} in groups "
                    f"{seen[id(part)]} and {number} of own=; take it out of one"
                )
            seen[id(part)] = number
        kept.append({**group, "params": parts})
    return kept


def _say(value: Any) -> str:
    name = type(value).__name__
    return f"'{value}'" if isinstance(value, str) else f"a {name}"
