"""Before training: initial weights and biases, parameter groups, penalties.

Names are loaded when first used, as in the package itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plumbob.design.initialise import initialise_ as initialise_
    from plumbob.design.parameter_groups import groups as groups

_HOMES: dict[str, tuple[str, ...]] = {
    "plumbob.design.initialise": ("initialise_",),
    "plumbob.design.parameter_groups": ("groups",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "groups",
    "initialise_",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'plumbob.design' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
