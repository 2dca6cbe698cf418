"""Before training: initial weights and biases, parameter groups, penalties.

Names are loaded when first used, as in the package itself.
"""

from importlib import import_module
from typing import Any

_HOMES: dict[str, tuple[str, ...]] = {}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__: list[str] = []


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'plumbob.design' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
