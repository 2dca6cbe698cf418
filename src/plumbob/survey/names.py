"""Names of sites."""

from torch import nn

from plumbob.survey.affine import Affine
from plumbob.survey.graph import canonical


class Names:
    """Gives each use of a weight the name of its site.

    The name is the module's path where the parameter is called "weight", else the
    parameter's own, with the rows where only some are used. A tied weight is named
    after the module that uses it, as far as the graph knows the module.
    """

    def __init__(self, model: nn.Module):
        self.aliases: dict[str, list[str]] = {}
        for alias, name in canonical(model).items():
            self.aliases.setdefault(name, []).append(alias)
        self._recurrent = {
            f"{path}.{name}".lstrip(".")
            for path, module in model.named_modules(remove_duplicate=False)
            if isinstance(module, (nn.RNNBase, nn.RNNCellBase))
            for name, _ in module.named_parameters(recurse=False)
        }
        self._kinds: dict[str, str] = {}

    def others(self, weight: str) -> tuple[str, ...]:
        """Return the other names of a tied weight."""
        return tuple(alias for alias in self.aliases[weight] if alias != weight)

    def recurrent(self, weight: str) -> bool:
        """Say whether a parameter belongs to a recurrent layer."""
        return weight in self._recurrent

    def of(self, use: Affine) -> str:
        """Return the name of the site that a map is a use of."""
        rows = ""
        if use.weight.cut and use.kind != "norm":
            axis, low, high = use.weight.cut
            rows = f"[{low}:{high}]" if axis == int(use.transposed) else ""
        stack = use.node.meta.get("nn_module_stack") or {}
        owner = list(stack.values())[-1][0] if stack else None
        aliases = self.aliases[use.weight.name]
        modules = [a for a in aliases if a.rpartition(".")[2] == "weight"]
        modules.sort(key=lambda a: f"model.{a}" != f"{owner}.weight")
        for alias in modules:
            name = site_name(alias) + rows
            if self._kinds.setdefault(name, use.kind) == use.kind:
                return name
        return use.weight.name + rows


def site_name(parameter: str) -> str:
    """Return the module's path of "path.weight", else the parameter's own."""
    module, _, last = parameter.rpartition(".")
    return module if last == "weight" and module else parameter
