"""An optimiser follows its model through a rewrite."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.optimizer import each


def migrate(
    optimizer: Any, before: Mapping[str, nn.Parameter], after: nn.Module
) -> None:
    """Let an optimiser hold the parameters of a rewritten model, by their names.

    What is gone goes with its state. What stands in another's place takes over its
    group, and its state where the shapes agree. What is new joins the group of its
    module's first parameter that has one.

    Args:
        optimizer: one, or several, which held the parameters of the model before.
        before: those parameters by name, from before the rewrite.
        after: the model now.

    Raises:
        InputError: an optimiser keeps one state for all parameters, and these change.
    """
    now = dict(after.named_parameters())
    held = {id(p) for p in now.values()}
    names = {id(p): name for name, p in before.items()}
    new = [name for name in now if name not in before]
    for one in each(optimizer):
        if isinstance(one, torch.optim.LBFGS):
            if {*map(id, before.values())} != held:
                raise InputError(
                    "expected an optimiser with a state of each parameter, got LBFGS, "
                    "which has one of all; mend the model without optimizer=, and make "
                    "another one for it"
                )
            continue
        for group in one.param_groups:
            labels = group.get("param_names") or [""] * len(group["params"])
            kept: list[tuple[nn.Parameter, str]] = []
            for old, label in zip(group["params"], labels, strict=True):
                name = names.get(id(old))
                if name is None or id(old) in held:  # not the model's, or still there
                    kept.append((old, label))
                    continue
                state = one.state.pop(old, None)
                if (found := now.get(name)) is None:
                    continue
                kept.append((found, label))
                if state is not None and found.shape == old.shape:
                    one.state[found] = state
            own = {id(p) for p, _ in kept}
            joined = [n for n in new if own & _siblings(after, n)]
            kept += [(now[n], n) for n in joined]
            new = [n for n in new if n not in joined]
            group["params"] = [p for p, _ in kept]
            if "param_names" in group:
                group["param_names"] = [label for _, label in kept]


def _siblings(model: nn.Module, name: str) -> set[int]:
    owner = model.get_submodule(name.rpartition(".")[0])
    return {id(p) for p in owner.parameters(recurse=False)}
