"""Losses as they are told, kept on their device until they are asked for."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from plumbob.errors import InputError
from plumbob.survey.stream.later import Later

Told = tuple[str, int, float | Tensor]
Series = tuple[tuple[int, float], ...]


def number(value: Any) -> float | Tensor:
    """Return a loss as a number: of another device as a copy there, not waited for.

    Raises:
        InputError: it is not one number.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            kind = "complex " if value.is_complex() else ""
            raise InputError(
                f"expected a loss of one real number, got {kind}{list(value.shape)}; "
                "pass what backward() is called on"
            )
        if value.is_cpu:
            return float(value.item())
        return value.detach().reshape(()).clone()
    try:
        one = value.item() if hasattr(value, "item") else value
        return one.__float__()
    except (AttributeError, TypeError, ValueError):  # several numbers, or none
        raise InputError(
            f"expected a loss as a number or a tensor, got {type(value).__name__}; "
            "pass what backward() is called on"
        ) from None


class Arriving:
    """Losses by name and step, of which some are on their way."""

    def __init__(self, told: Sequence[Told]) -> None:
        self.told = told
        self.later = Later([v for _, _, v in told if isinstance(v, Tensor)])

    @property
    def ready(self) -> bool:
        """Whether `read` need not wait."""
        return self.later.ready

    def read(self) -> dict[str, Series]:
        """Return them by name."""
        arrived = iter(self.later.read())
        found: dict[str, list[tuple[int, float]]] = {}
        for name, step, value in self.told:
            known = float(next(arrived)) if isinstance(value, Tensor) else value
            found.setdefault(name, []).append((step, known))
        return {name: tuple(some) for name, some in found.items()}
