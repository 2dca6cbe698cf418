"""Units are taken out of a layer: rows, norms after it, columns of its readers."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from plumbob.errors import InputError
from plumbob.mending.exchange import called, sole_call
from plumbob.mending.hooks import hooked, passed, stack
from plumbob.mending.moves import ONE_PATH
from plumbob.survey.affine import Affine
from plumbob.survey.graph import Graph
from plumbob.survey.hidden import Hidden, shared
from plumbob.survey.modules import is_conv1d
from plumbob.survey.views import View
from plumbob.survey.writable import writable

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TURNED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
SIZES: dict[type[nn.Module], tuple[str, str]] = {
    nn.Linear: ("out_features", "in_features"),
    **dict.fromkeys((*CONVOLUTIONS, *TURNED), ("out_channels", "in_channels")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The module that makes units, and those that hold something for each of them.

    With norms and readers stands how many channels or columns in a row belong to a
    unit.
    """

    writer: str
    units: int
    norms: tuple[tuple[str, int], ...]
    readers: tuple[tuple[str, int], ...]


def layer(model: nn.Module, graph: Graph, found: Hidden) -> Layer:
    """Return the modules of hidden units.

    Raises:
        InputError: others read the units, a module may not be changed, or the graph is
            one recorded run.
    """
    if graph.on_this_path:
        raise InputError(ONE_PATH)
    writer = owner(found.use.weight.name)
    if found.obstacles:
        raise InputError(
            f"expected units that only linear maps and convolutions read, got those of "
            f"{writer}: {'; '.join(found.obstacles)}; leave them"
        )
    readers = [(owner(use.weight.name), width) for use, width in found.readers]
    for path in dict.fromkeys((writer, *(path for path, _ in readers))):
        whole(model, path, tuple(SIZES))
    norms: list[tuple[str, int]] = []
    for node, width in found.norms:
        sole_call(model, graph, called(graph, node), {node, *node.users})
        norms.append((called(graph, node), width))
        whole(model, norms[-1][0], BATCH_NORMS)
    nodes = (found.use.node, *found.between)
    crossed = {
        path
        for node in nodes
        for user in node.users
        for path in stack(node) ^ stack(user)
    }
    why = hooked(model, [f"{path}.weight" for path in crossed], ())
    if why := why or passed(model, nodes):
        raise InputError(why)
    return Layer(
        writer=writer,
        units=found.use.out,
        norms=tuple(norms),
        readers=tuple(readers),
    )


def owner(parameter: str) -> str:
    """Return the path of the module that a parameter is of."""
    return parameter.rpartition(".")[0]


def whole(model: nn.Module, path: str, kinds: Collection[type]) -> nn.Module:
    """Return a module that may be given another shape.

    Raises:
        InputError: it is of another kind, has hooks, or has parameters that are shared,
            parametrised, quantised or distributed.
    """
    module = model.get_submodule(path)
    if not (type(module) in kinds or is_conv1d(module)):
        raise InputError(
            f"expected a module of torch's own, got {path}: "
            f"{type(module).__name__}; its shape is its own affair: leave it"
        )
    if why := hooked(model, [f"{path}.weight"], ()):
        raise InputError(why)
    for name, _ in module.named_parameters(recurse=False):
        writable(model, f"{path}.{name}".lstrip("."), frozen=True)
    return module


def sole_use(use: Affine, known: Mapping[fx.Node, View]) -> None:
    """Refuse a map whose weight or bias is used elsewhere too.

    Raises:
        InputError: it is, as where a layer is called twice.
    """
    if reason := shared(use, known):
        raise InputError(reason)


def intact(model: nn.Module, layer: Layer) -> bool:
    """Say whether a layer has the units that it had."""
    writer = model.get_submodule(layer.writer)
    return getattr(writer, sizes(writer)[0]) == layer.units


def axes(module: nn.Module) -> tuple[int, int]:
    """Return the axes of a weight along which its units and its inputs lie."""
    return (1, 0) if is_conv1d(module) or isinstance(module, TURNED) else (0, 1)


def sizes(module: nn.Module) -> tuple[str, str]:
    """Return the names of a module's numbers of units and of inputs."""
    return ("nf", "nx") if is_conv1d(module) else SIZES[type(module)]


def pads_zeros(module: nn.Module) -> bool:
    """Say whether a module reads zeros beyond the border of its input."""
    if isinstance(module, TURNED):
        return True  # what it writes there comes from fewer inputs
    if not isinstance(module, CONVOLUTIONS) or module.padding_mode != "zeros":
        return False
    pads: Iterable[Any] = module._reversed_padding_repeated_twice  # pyright: ignore[reportPrivateUsage]
    return any(pads)


def columns(
    model: nn.Module, path: str, width: int
) -> Float[Tensor, "units width out taps"]:
    """Return the weights by which a module reads each unit, in float64."""
    module: Any = model.get_submodule(path)
    out, into = axes(module)
    weight = module.weight.detach().cpu().double()
    weight = weight.movedim((into, out), (0, 1))
    return weight.reshape(len(weight) // width, width, weight.shape[1], -1)


@torch.no_grad()
def add_constant(
    model: nn.Module, path: str, width: int, values: Float[Tensor, " units"]
) -> None:
    """Add to a module's bias what units contribute that always have these values."""
    module: Any = model.get_submodule(path)
    more = torch.einsum("uwot,u->o", columns(model, path, width), values)
    if not bool(more.any()):
        return
    if module.bias is None:
        like = module.weight
        module.bias = nn.Parameter(more.to(like), requires_grad=like.requires_grad)
    else:
        module.bias.copy_(module.bias.cpu().double() + more)


@torch.no_grad()
def add_columns(
    model: nn.Module, path: str, width: int, copies: Mapping[int, tuple[int, float]]
) -> None:
    """Add columns of a module to those of other units, times a number."""
    module: Any = model.get_submodule(path)
    by_unit = module.weight.movedim(axes(module)[1], 0).unflatten(0, (-1, width))
    sums = by_unit.detach().cpu().double()
    for unit, (same, times) in copies.items():
        sums[same] += times * sums[unit]
    by_unit.copy_(sums)


@torch.no_grad()
def drop(model: nn.Module, layer: Layer, units: Collection[int]) -> None:
    """Take units out of a layer."""
    writer: Any = model.get_submodule(layer.writer)
    kept = [unit for unit in range(layer.units) if unit not in units]
    setattr(writer, sizes(writer)[0], len(kept))
    _pick(writer, "weight", axes(writer)[0], kept, 1)
    _pick(writer, "bias", 0, kept, 1)
    for path, width in layer.norms:
        norm: Any = model.get_submodule(path)
        norm.num_features = len(kept) * width
        for name in ("weight", "bias", "running_mean", "running_var"):
            _pick(norm, name, 0, kept, width)
    for path, width in layer.readers:
        reader: Any = model.get_submodule(path)
        setattr(reader, sizes(reader)[1], len(kept) * width)
        _pick(reader, "weight", axes(reader)[1], kept, width)


def _pick(module: nn.Module, name: str, axis: int, kept: list[int], width: int) -> None:
    old: Tensor | None = getattr(module, name)
    if old is None:
        return
    at = [unit * width + i for unit in kept for i in range(width)]
    new = old.detach().index_select(axis, torch.tensor(at, device=old.device))
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, name, new)
