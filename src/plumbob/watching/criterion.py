"""The losses that a training loop takes: heard where they are taken."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.survey.quiet import aside
from plumbob.survey.stream.unsaved import Hook

Heard = Callable[[Tensor, Any, Any], None]


class Criterion:
    """The user's loss; `heard` gets its value, what it judged and what was wanted.

    A module is heard by a hook wherever the loop calls it, any other function where
    it is called through this one. Deaf while `asleep`.
    """

    def __init__(self, loss: Callable[..., Any] | None, heard: Heard) -> None:
        if loss is not None and (isinstance(loss, type) or not callable(loss)):
            raise InputError(
                "expected a loss called as loss(outputs, targets), got "
                f"{getattr(loss, '__name__', type(loss).__name__)}; pass a function, "
                "or an instance such as nn.CrossEntropyLoss()"
            )
        self.loss, self.heard = loss, heard
        self.asleep = False
        self.handle: Any = None
        if isinstance(loss, nn.Module):
            hook = Hook(self._called)
            self.handle = loss.register_forward_hook(hook, with_kwargs=True)

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Return what the loss returns, and note it.

        Raises:
            InputError: there is none.
        """
        if self.loss is None:
            raise InputError(
                "expected a loss to call, got none; pass it: plumbob.watch(..., loss=)"
            )
        value = self.loss(*given, **named)
        if self.handle is None:
            self._hear(given, named, value)
        return value

    def _called(self, loss: nn.Module, given: Any, named: Any, value: Any) -> None:
        if not aside():
            self._hear(given, named, value)

    def _hear(self, given: Any, named: Any, value: Any) -> None:
        parts = [*given, *named.values()]
        if self.asleep or not isinstance(value, Tensor) or not value.numel():
            return
        if not value.is_floating_point():
            return
        value = value if value.numel() == 1 else value.mean()
        self.heard(value, parts[0], parts[1] if len(parts) > 1 else None)

    def close(self) -> None:
        """Take the hook off."""
        if self.handle is not None:
            self.handle.remove()
