"""Hand an optimiser the parameters that it lacks."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from plumbob.errors import InputError, did_you_mean
from plumbob.survey.optimizer import each, settings_of


def add_parameters(
    model: nn.Module,
    optimizer: Any,
    *,
    parameters: Sequence[str],
    undecayed: Sequence[str] = (),
) -> None:
    """Add parameters, in place, in groups with the settings of the first group.

    A learning-rate scheduler counts the groups when it is made: make it afterwards.

    Args:
        model: whose names these are.
        optimizer: a torch optimiser; of several, each parameter goes to the one that
            holds others of as many axes: an optimiser of matrices gets no bias.
        parameters: names as in `model.named_parameters()`.
        undecayed: those of `parameters` that get a group without weight decay.

    Raises:
        InputError: a name is no parameter of the model, is held already, or stands
            in `undecayed` alone; or not exactly one of several optimisers holds
            such parameters. Nothing is changed then.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        >>> adam = torch.optim.AdamW(net[0].parameters(), weight_decay=0.1)
        >>> names = ["1.weight", "1.bias"]
        >>> add_parameters(net, adam, parameters=names, undecayed=["1.bias"])
        >>> [(len(g["params"]), g["weight_decay"]) for g in adam.param_groups]
        [(2, 0.1), (1, 0.1), (1, 0.0)]
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    optimizers = list(each(optimizer))
    held = {id(p) for o in optimizers for g in o.param_groups for p in g["params"]}
    for name in (*parameters, *undecayed):
        if name not in known:
            raise InputError(
                f"expected names of parameters of {type(model).__name__}, got "
                f"'{name}'.{did_you_mean(name, known)}"
            )
        if id(known[name]) in held:
            raise InputError(
                f"expected parameters that the optimiser lacks, got '{name}', which is "
                "in one of its groups already; leave it out"
            )
    if lone := sorted(set(undecayed) - set(parameters)):
        raise InputError(
            f"expected undecayed= to name some of parameters=, got '{lone[0]}' "
            "besides; name it in both"
        )
    takers = {name: _taker(optimizers, known[name], name) for name in parameters}
    for one in optimizers:
        first = one.param_groups[0]
        for extra in ({}, {"weight_decay": 0.0}):
            mine = {
                id(known[name]): (name, known[name])
                for name, taker in takers.items()
                if taker is one and (name in undecayed) is bool(extra)
            }
            pairs = list(mine.values())
            if pairs:
                params = pairs if "param_names" in first else [p for _, p in pairs]
                group = {**settings_of(first), **extra, "params": params}
                one.add_param_group(group)


def _taker(optimizers: Sequence[Any], parameter: Tensor, name: str) -> Any:
    """Return the only optimiser, or the only one that holds such parameters.

    Raises:
        InputError: none of several does, or more than one.
    """
    if len(optimizers) == 1:
        return optimizers[0]
    able = [
        one
        for one in optimizers
        if any(p.ndim == parameter.ndim for g in one.param_groups for p in g["params"])
    ]
    if len(able) != 1:
        raise InputError(
            f"expected one of {len(optimizers)} optimisers to hold parameters of "
            f"{parameter.ndim} axes, like {name} {list(parameter.shape)}, got "
            f"{len(able)} that do; add it by hand to the one that is meant for it"
        )
    return able[0]
