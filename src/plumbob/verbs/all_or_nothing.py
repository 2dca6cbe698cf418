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
    from plumbob.survey.optimizer import each

    met: dict[int, Any] = {}
    try:
        with same_random():
            both = copy.deepcopy((model, optimizer), met)
            several = [] if optimizer is None else each(optimizer)
            for one, new in zip(several, each(both[1] or []), strict=True):
                _attributes(one, new, met)
            return both
    except InputError:
        raise
    except Exception as error:  # whatever the user's modules raise
        raise InputError(
            f"{type(model).__name__} cannot be copied ({one_line(error)}); {advice}"
        ) from error


def _attributes(optimizer: Any, new: Any, met: dict[int, Any]) -> None:
    """Copy what torch's optimisers leave out of a copy: what a class adds of its own.

    Functions are left out: a scheduler's would step the optimiser that was copied.
    """
    for name, value in vars(optimizer).items():
        if name not in vars(new) and not callable(value):
            setattr(new, name, copy.deepcopy(value, met))


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
