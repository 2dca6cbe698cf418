"""Several models that train together, as one: names begin with the model's own."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import distributed, nn

from plumbob.errors import InputError, one_line
from plumbob.survey.graph import inner

WRAPPERS = ("DistributedDataParallel", "DataParallel")
WAITING = {"FSDPModule", "FullyShardedDataParallel", "SyncBatchNorm"}


class Several(nn.ModuleDict):
    """Holds models without touching them; it is training where one of them is."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        super().__init__(dict(models))

    @property
    def training(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> bool:
        """Whether one of them is in training mode."""
        return any(model.training for model in self.children())

    @training.setter
    def training(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, mode: bool
    ) -> None:
        """Leave them as they are: `nn.Module` sets it when it is made."""


def as_one(model: Any) -> nn.Module:
    """Return one module: the given one, or a holder of several.

    Raises:
        InputError: it is neither a module nor a dict, list or tuple of modules, or a
            name of one is none that torch takes.
    """
    parts: dict[str, Any] = {}
    if isinstance(model, Mapping):
        parts = {str(k): v for k, v in cast(Mapping[Any, Any], model).items()}
    elif isinstance(model, (list, tuple)):
        parts = {str(i): v for i, v in enumerate(cast(list[Any], model))}
    for part in (model, *parts.values()):
        if isinstance(part, torch.jit.ScriptModule):
            raise InputError(
                f"expected a torch.nn.Module, got a {type(part).__name__}, which takes "
                "no hooks; watch the module that it was made of"
            )
    if isinstance(model, nn.Module):
        return model
    if not parts or not all(isinstance(part, nn.Module) for part in parts.values()):
        raise InputError(
            "expected a torch.nn.Module, or a dict or list of them, got "
            f"{type(model).__name__}; pass what is trained"
        )
    if len(parts) == 1:
        return next(iter(parts.values()))
    named = {name.replace(".", "-"): part for name, part in parts.items()}
    try:
        return Several(named)
    except KeyError as error:  # torch's modules have attributes of such names
        raise InputError(
            f"expected other names for the models, got {', '.join(named)} "
            f"({one_line(error)}); choose others"
        ) from error


def roots(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that the loop calls, by the prefix of their names."""
    return dict(model.items()) if isinstance(model, Several) else {"": model}


def bare(model: nn.Module) -> nn.Module:
    """Return the module without what compiles it or spreads it over ranks."""
    found: Any = inner(model)
    while type(found).__name__ in WRAPPERS:
        found = inner(found.module)
    return found


def spread(model: nn.Module) -> bool:
    """Say whether a pass waits for other ranks, as where each holds a part.

    It must not be run by one rank alone.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    cut = any(hasattr(p, "placements") for p in model.parameters())
    kinds = {kind.__name__ for part in model.modules() for kind in type(part).mro()}
    return distributed.get_world_size() > 1 and (cut or bool(kinds & WAITING))
