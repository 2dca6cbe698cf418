"""A model and its optimisers, changed together, wholly or not at all."""

import copy
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from plumbob.errors import InputError, one_line

if TYPE_CHECKING:
    from torch import nn

    Model = TypeVar("Model", bound=nn.Module)


def copied(model: "Model", optimizer: Any, advice: str) -> "tuple[Model, Any]":
    """Copy both together, so that the one still holds the other's parameters.

    Raises:
        InputError: something in them cannot be copied; the advice is what to do.
    """
    from plumbob.survey.guard import same_random

    try:
        with same_random():
            return copy.deepcopy((model, optimizer))
    except Exception as error:  # whatever the user's modules raise
        raise InputError(
            f"{type(model).__name__} cannot be copied ({one_line(error)}); {advice}"
        ) from error


@contextmanager
def all_or_nothing(model: "nn.Module", optimizer: Any) -> Generator[None, None, None]:
    """Put model and optimisers back as they were where something fails."""
    from torch import Tensor

    from plumbob.survey.guard import or_as_before
    from plumbob.survey.optimizer import each

    before = [
        (
            one,
            [{**group, "params": [*group["params"]]} for group in one.param_groups],
            {
                p: {k: v.clone() if isinstance(v, Tensor) else v for k, v in s.items()}
                for p, s in one.state.items()
            },
        )
        for one in (each(optimizer) if optimizer is not None else ())
    ]
    try:
        with or_as_before(model):
            yield
    except BaseException:
        for one, groups, state in before:
            one.param_groups[:] = groups
            one.state.clear()
            one.state.update(state)
        raise
