"""Take named parameters of an optimiser out of the weight decay."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from plumbob.errors import InputError, did_you_mean
from plumbob.survey.optimizer import each, settings_of


def split_groups(
    model: nn.Module, optimizer: Any, *, parameters: Sequence[str]
) -> None:
    """Move parameters, in place, to groups of the same settings without decay.

    A group whose every parameter is named keeps them and loses its decay; one that
    has none stays. Momenta and step counts are kept, as torch keeps them by
    parameter. Parameters outside this model keep their place.

    A learning-rate scheduler counts the groups when it is made: make it afterwards.

    Args:
        model: whose names these are.
        optimizer: a torch optimiser, or a list, tuple or dict of them.
        parameters: names as in `model.named_parameters()`, or of a tied twin.

    Raises:
        InputError: a name is no parameter of the model, or none of the optimiser's.
            Nothing is changed then.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> adam = torch.optim.AdamW(layer.parameters(), weight_decay=0.1)
        >>> split_groups(layer, adam, parameters=["bias"])
        >>> [(len(g["params"]), g["weight_decay"]) for g in adam.param_groups]
        [(1, 0.1), (1, 0.0)]
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    optimizers = list(each(optimizer))
    held = {id(p) for o in optimizers for g in o.param_groups for p in g["params"]}
    for name in parameters:
        if name not in known:
            raise InputError(
                f"expected names of parameters of {type(model).__name__}, got "
                f"'{name}'.{did_you_mean(name, known)}"
            )
        if id(known[name]) not in held:
            raise InputError(
                f"expected parameters that the optimiser holds, got '{name}', which is "
                "in none of its groups; add it to one first"
            )
    named = {id(known[name]) for name in parameters}
    for one in optimizers:
        for group in list(one.param_groups):
            _split(one, group, named)


def _split(optimizer: Any, group: dict[str, Any], named: set[int]) -> None:
    moves = [id(p) in named for p in group["params"]]
    if not any(moves) or not group.get("weight_decay"):
        return
    if all(moves):
        group["weight_decay"] = 0.0
        return
    names = group.get("param_names")
    params = list(
        zip(names, group["params"], strict=True) if names else group["params"]
    )
    for key in ("params", "param_names") if names else ("params",):
        group[key] = [v for v, out in zip(group[key], moves, strict=True) if not out]
    moved = [p for p, out in zip(params, moves, strict=True) if out]
    optimizer.add_param_group({
        **settings_of(group),
        "params": moved,
        "weight_decay": 0.0,
    })
