"""Hooks, which would see values that a rewrite moves."""

from collections.abc import Iterable, Iterator, Sequence

from torch import fx, nn

from plumbob.survey.flow import Walk

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
# Transformers leaves hooks where hidden states were asked for once. They do nothing but
# when a call asks again, and then what they see is in the outputs, and in their graph.
CAPTURES = "transformers.utils.output_capturing"


def hooked(model: nn.Module, names: Iterable[str], walks: Iterable[Walk]) -> str | None:
    """Return why hooks forbid a rewrite, or None where no hook sees it.

    A hook sees the parameters of its module, and what enters and leaves it. A model
    that was asked for its hidden states is as good as one that was not yet.

    Args:
        model: whose modules may have hooks.
        names: parameters and buffers that change.
        walks: the ways of what moves.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    owners = (name.rpartition(".")[0] for name in names)
    walks = list(walks)
    for path in (*owners, *(p for walk in walks for p in _crossed(walk))):
        if path in modules and any(_sees(modules[path])):
            place = path or type(model).__name__
            return f"{place} has hooks, which would see the change; remove them first"
    return passed(model, [node for walk in walks for node in _moved(walk)])


def passed(model: nn.Module, nodes: Sequence[fx.Node]) -> str | None:
    """Return why hooks of what does nothing forbid a change of some nodes, or None.

    As nn.Identity leaves no operation in a graph, what it is given is not known: it may
    be what changes, where the module that it is a part of computes some of that.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    mine = {path for path, module in modules.items() if any(_sees(module))}
    if not (mine and nodes):
        return None
    every = {path for node in nodes[0].graph.nodes for path in stack(node)}
    near = {path for node in nodes for path in stack(node)}
    for path in sorted(mine - every):
        above = path
        while above and above not in every:
            above = above.rpartition(".")[0]
        if above in near:
            return f"{path} has hooks, which may see the change; remove them first"
    return None


def _sees(module: nn.Module) -> Iterator[bool]:
    for kind in HOOKS:
        for hook in getattr(module, kind).values():
            yield getattr(hook, "__module__", None) != CAPTURES


def _crossed(walk: Walk) -> Iterator[str]:
    """Yield the modules that a moved value enters or leaves."""
    for node in _moved(walk):
        for user in node.users:
            if user.op != "output":
                yield from stack(node) ^ stack(user)


def _moved(walk: Walk) -> Iterator[fx.Node]:
    for node, fate in walk.shifts.items():
        parts = fate if isinstance(fate, list) else [fate]
        if node.op != "placeholder" and any(part is not None for part in parts):
            yield node


def stack(node: fx.Node) -> set[str]:
    """Return the paths of the modules that a node lies in."""
    stack = node.meta.get("nn_module_stack") or {}
    return {path.partition(".")[2] for path, _ in stack.values()}
