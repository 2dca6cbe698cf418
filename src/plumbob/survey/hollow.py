"""A model that is built without memory for its parameters."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from plumbob.errors import InputError
from plumbob.survey.files import Entry
from plumbob.survey.guard import same_random
from plumbob.survey.weights import dtype_of


def hollow(build: Callable[[], Any]) -> nn.Module:
    """Call what builds a model; its parameters lie on the meta device at once.

    Buffers, which the class may compute, keep their values.

    Raises:
        InputError: it returns no model, or one whose parameters have values.
    """
    if isinstance(build, nn.Module):
        raise InputError(
            f"expected what builds a model, got one, a {type(build).__name__}; pass a "
            "function that makes it when called"
        )
    with same_random(), _parameters_on_meta():
        model = build()
    if not isinstance(model, nn.Module):
        raise InputError(
            f"expected what builds a torch.nn.Module, got {type(model).__name__}"
        )
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:
            raise InputError(
                "expected what builds a model from its configuration, got one whose "
                f"{name} has values already; build it when called, and load nothing"
            )
    return model


def as_stored(model: nn.Module, entries: Mapping[str, Entry]) -> None:
    """Give the parameters of a hollow model the dtypes of the values in files."""
    kinds = {name: dtype_of(entry) for name, entry in entries.items()}
    floating = {kind for kind in kinds.values() if kind.is_floating_point}
    if len(floating) == 1:
        model.to(floating.pop())  # buffers too, as for any model of one dtype
        return
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(kinds[name])


@contextmanager
def _parameters_on_meta() -> Generator[None, None, None]:
    """Move every parameter to the meta device when a module takes it."""
    plain = nn.Module.register_parameter

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        plain(self, name, param)
        if param is not None and not param.is_meta and type(param) is nn.Parameter:
            gone = nn.Parameter(param.detach().to("meta"), param.requires_grad)
            self._parameters[name] = gone  # pyright: ignore[reportPrivateUsage]

    nn.Module.register_parameter = register
    try:
        yield
    finally:
        nn.Module.register_parameter = plain
