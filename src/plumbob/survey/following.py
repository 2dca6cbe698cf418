"""What follows each site, as the graph tells it, or else the modules."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import fx, nn

from plumbob.errors import InputError
from plumbob.survey.batches import Batch
from plumbob.survey.graph import NORMS, Graph, export
from plumbob.survey.neighbours import MAPS
from plumbob.survey.ops import ACTIVATIONS, op
from plumbob.survey.trace import module_sites, structure
from plumbob.types import Site

# modules' class names in lower case
NAMES = {name.replace("_", ""): name for name in (*ACTIVATIONS.values(), "hardtanh")}
PASSED = (
    *(nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.Identity, nn.Flatten),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
)
AFFINE = (nn.Linear, nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage]
LEAKY = 0.01  # torch's default slope
FEW = 4  # samples to trace with


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The sites, and what they lack: slopes of leaky ReLUs by the weight's name.

    `known` are the sites of which it is known what follows, also where nothing does;
    `note` says why it is not of the others.
    """

    sites: tuple[Site, ...]
    slopes: Mapping[str, float]
    known: set[str]
    bends: tuple[str, ...] = ()
    note: str = ""


def look(model: nn.Module, batches: Sequence[Batch]) -> Facts:
    """Trace the model on a few samples, or on a batch; else read its modules."""
    graph = _graph(model, batches[0]) if batches else None
    if graph is None:
        sites, leaks, known = from_modules(model, module_sites(model))
        why = "the model cannot be traced" if batches else "no data given"
        note = f"what follows is not known: {why}"
        return Facts(sites=sites, slopes=leaks, known=known, note=note)
    sites, bends = structure(model, graph)
    known = {site.name for site in sites}
    return Facts(sites=sites, slopes=slopes(model, graph), known=known, bends=bends)


def _graph(model: nn.Module, batch: Batch) -> Graph | None:
    for inputs in (batch.few(FEW), batch):
        with suppress(InputError):  # a model of pairs, say; all inputs may do
            return export(model, inputs.args, inputs.kwargs, training=model.training)
    return None


def slopes(model: nn.Module, graph: Graph) -> dict[str, float]:
    """Return the slope below 0 of a leaky ReLU, by the name of the weight before it.

    A PReLU's is the mean of its own.
    """
    found: dict[str, float] = {}
    for node in graph.module.graph.nodes:
        if op(node) == "leaky_relu":
            slope = float(node.args[1]) if len(node.args) > 1 else LEAKY
        elif op(node) in {"prelu", "_prelu_kernel"}:
            names = _parameters(node, graph)[-1:]
            own = (float(model.get_parameter(name).detach().mean()) for name in names)
            slope = next(own, LEAKY)
        else:
            continue
        for name in _before(node, graph):
            found.setdefault(name, slope)
    return found


def _before(node: fx.Node, graph: Graph) -> list[str]:
    """Return the parameters between an activation and what its map reads."""
    names: list[str] = []
    at = node.all_input_nodes[0]
    while at.op == "call_function":
        names += _parameters(at, graph)
        if op(at) in MAPS or not at.all_input_nodes:
            break
        at = at.all_input_nodes[0]
    return names


def _parameters(node: fx.Node, graph: Graph) -> list[str]:
    """Return the parameters that a node reads, also through views of them."""
    names: list[str] = []
    for source in node.all_input_nodes:
        while source.op == "call_function" and len(source.all_input_nodes) == 1:
            source = source.all_input_nodes[0]
        if source.name in graph.parameters:
            names.append(graph.parameters[source.name])
    return names


def from_modules(
    model: nn.Module, sites: Iterable[Site]
) -> tuple[tuple[Site, ...], dict[str, float], set[str]]:
    """Say what follows each site as far as nn.Sequential makes it certain.

    Returns:
        The sites with activation, norm and whether it is the output; the slopes of
        leaky ReLUs by the weight's name; the names of the sites for which this is
        known, also where nothing follows.
    """
    known: dict[str, Site] = {}
    slope_of: dict[str, float] = {}
    mine = {site.name: site for site in sites}
    for path, module in model.named_modules():
        if type(module) is not nn.Sequential:
            continue
        names = [f"{path}.{name}".lstrip(".") for name, _ in module.named_children()]
        children = list(module.children())
        for i, name in enumerate(names):
            if name not in mine:
                continue
            rest = [m for m in children[i + 1 :] if not isinstance(m, PASSED)]
            norm = "norm" if rest and isinstance(rest[0], NORMS) else None
            rest = rest[1:] if norm else rest
            last = not rest and not path
            activation = NAMES.get(type(rest[0]).__name__.lower()) if rest else None
            if last or norm or activation or (rest and isinstance(rest[0], AFFINE)):
                known[name] = replace(
                    mine[name], activation=activation, norm=norm, is_output=last
                )
                slope_of[mine[name].weight] = _slope(rest[0]) if rest else LEAKY
    return tuple(known.get(n, s) for n, s in mine.items()), slope_of, set(known)


def _slope(module: nn.Module) -> float:
    if isinstance(module, nn.PReLU):
        return float(module.weight.detach().mean())
    return float(getattr(module, "negative_slope", LEAKY))
