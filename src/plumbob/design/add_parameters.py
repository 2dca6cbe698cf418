"""Hand an optimiser the parameters that it lacks."""

from collections.abc import Sequence
from typing import Any

from torch import nn

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
        optimizer: a torch optimiser; of several, the first takes them.
        parameters: names as in `model.named_parameters()`.
        undecayed: those of `parameters` that get a group without weight decay.

    Raises:
        InputError: a name is no parameter of the model, is held already, or stands
            in `undecayed` alone. Nothing is changed then.

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
    first = optimizers[0]
    named = "param_names" in first.param_groups[0]
    settings = settings_of(first.param_groups[0])
    decayed = [name for name in parameters if name not in undecayed]
    for names, extra in ((decayed, {}), (undecayed, {"weight_decay": 0.0})):
        unique = {id(known[name]): (name, known[name]) for name in names}
        pairs = list(unique.values())
        if pairs:
            params = pairs if named else [parameter for _, parameter in pairs]
            first.add_param_group({**settings, **extra, "params": params})
