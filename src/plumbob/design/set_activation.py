"""An activation is put in the place of another, or behind an affine map."""

from collections.abc import Callable
from functools import partial

from torch import nn

from plumbob.errors import InputError, did_you_mean

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "softmax": partial(nn.Softmax, dim=-1),
    "tanh": nn.Tanh,
}


def set_activation(model: nn.Module, *, module: str, activation: str) -> None:
    """Let a module be another activation, or let one follow it, in place.

    Why:
        The activations of a network are part of what it can express and of what its
        loss reads: a softmax over one unit is 1 whatever is learnt, two maps without
        one between them are one map.

    A module without parameters, buffers and children is replaced, under its name. A
    module with parameters is kept, and the activation follows it: that can only be
    done inside a `nn.Sequential`, where it gets the name `<name>_<activation>`, so
    that no parameter is renamed. No parameter comes or goes, so optimisers stay valid.

    Args:
        model: what to change.
        module: the path of an activation, or of an affine map in a `nn.Sequential`.
        activation: "identity", "relu", "sigmoid", "softmax" (over the last axis) or
            "tanh".

    Raises:
        InputError: there is no such module or activation, the module is used under
            several names or has hooks, or the model's own code says what follows it.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 1), nn.Softmax(-1))
        >>> set_activation(model, module="1", activation="sigmoid")
        >>> set_activation(model, module="0", activation="tanh")
        >>> [f"{name}: {type(part).__name__}" for name, part in model.named_children()]
        ['0: Linear', '0_tanh: Tanh', '1: Sigmoid']
    """
    if activation not in ACTIVATIONS:
        raise InputError(
            f"expected an activation of {', '.join(ACTIVATIONS)}, got "
            f"'{activation}'.{did_you_mean(activation, ACTIVATIONS)}"
        )
    modules = dict(model.named_modules(remove_duplicate=False))
    if not module or module not in modules:
        raise InputError(
            f"expected the path of a module of {type(model).__name__}, got "
            f"'{module}'.{did_you_mean(module, modules)}"
        )
    found = modules[module]
    home, _, name = module.rpartition(".")
    parent = modules[home]
    new = ACTIVATIONS[activation]().train(found.training)
    if [*found.parameters(), *found.buffers(), *found.children()]:
        _follow(parent, module, name, f"{name}_{activation}", new)
        return
    if len(places := [path for path, m in modules.items() if m is found]) > 1:
        raise InputError(
            f"expected a module of one name, got '{module}', which is also "
            f"{', '.join(p for p in places if p != module)}; give each place its own"
        )
    if any(held for kind, held in vars(found).items() if "_hooks" in kind):
        raise InputError(
            f"expected a module without hooks, got '{module}', whose hooks would be "
            "lost; remove them first"
        )
    setattr(parent, name, new)


def _follow(
    parent: nn.Module, path: str, name: str, new_name: str, new: nn.Module
) -> None:
    """Put a module behind another one of a `nn.Sequential`.

    Raises:
        InputError: the parent is none, so its own code says what follows.
    """
    if type(parent).forward is not nn.Sequential.forward:
        raise InputError(
            f"expected a module inside a nn.Sequential, got '{path}' in a "
            f"{type(parent).__name__}, whose own forward says what follows; put the "
            "activation there"
        )
    held: dict[str, nn.Module | None] = vars(parent)["_modules"]
    parts = dict(held)
    held.clear()
    for key, part in parts.items():
        held[key] = part
        if key == name:
            held[new_name] = new
