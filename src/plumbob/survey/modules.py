"""The sites of a model of which nothing but its modules is known."""

from collections.abc import Iterator
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from plumbob.survey.graph import NORMS, canonical
from plumbob.survey.names import site_name
from plumbob.types import Site

CONVOLUTIONS = nn.modules.conv._ConvNd  # pyright: ignore[reportPrivateUsage]
TURNED = nn.modules.conv._ConvTransposeNd  # pyright: ignore[reportPrivateUsage]
TABLES = (nn.Embedding, nn.EmbeddingBag)


def module_sites(model: nn.Module) -> tuple[Site, ...]:
    """Return the sites that the modules alone make certain, in registration order.

    Neighbours are unknown. Parametrised and uninitialised weights are left out.
    """
    first = canonical(model)
    found: list[Site] = []
    for path, module in model.named_modules():
        for name, kind, bias in _weights(module):
            weight = getattr(module, name, None)
            full = f"{path}.{name}".lstrip(".")
            if not isinstance(weight, nn.Parameter) or full not in first:
                continue
            if not weight.is_floating_point():
                continue
            offset = getattr(module, bias, None)
            has_bias = isinstance(offset, nn.Parameter)
            turned = _transposed(module, weight, offset if has_bias else None)
            groups = getattr(module, "groups", 1) if kind.startswith("conv") else 1
            own = first[full]
            out, fan_in = _sizes(kind, weight, turned, groups)
            found.append(
                Site(
                    name=site_name(full),
                    kind=kind,
                    out=out,
                    fan_in=fan_in,
                    weight=own,
                    bias=first[f"{path}.{bias}".lstrip(".")] if has_bias else None,
                    groups=groups,
                    transposed=turned,
                    tied=tuple(a for a, n in first.items() if n == own and a != own),
                    trainable=weight.requires_grad,
                )
            )
    return tuple(found)


def computed(model: nn.Module) -> dict[str, str]:
    """Return the modules whose weight is computed (weight norm), which are no sites."""
    return {
        path: "its weight is computed from other parameters"
        for path, module in model.named_modules()
        if _computed(module)
    }


def _computed(module: nn.Module) -> bool:
    if parametrize.is_parametrized(module, "weight"):  # reading it might change it
        made: Any = module.parametrizations
        return any(p.ndim > 1 for p in made.weight.parameters())
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or isinstance(weight, nn.Parameter):
        return False
    return weight.ndim > 1


def _weights(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Yield weight, kind and bias of a module's own maps."""
    if parametrize.is_parametrized(module):
        return
    if isinstance(module, nn.RNNBase):
        for layer in range(module.num_layers):
            for way in ("", "_reverse")[: 1 + module.bidirectional]:
                for part in ("ih", "hh"):
                    end = f"{part}_l{layer}{way}"
                    yield f"weight_{end}", "recurrent", f"bias_{end}"
                yield f"weight_hr_l{layer}{way}", "recurrent", ""
    elif isinstance(module, nn.RNNCellBase):
        yield "weight_ih", "recurrent", "bias_ih"
        yield "weight_hh", "recurrent", "bias_hh"
    elif isinstance(module, nn.MultiheadAttention):
        yield "in_proj_weight", "linear", "in_proj_bias"
        for part in "qkv":
            yield f"{part}_proj_weight", "linear", ""
    elif isinstance(module, NORMS):
        yield "weight", "norm", "bias"
    elif isinstance(module, TABLES):
        yield "weight", "embedding", ""
    elif isinstance(module, CONVOLUTIONS):
        turned = isinstance(module, TURNED)
        yield "weight", "conv-transpose" if turned else "conv", "bias"
    elif isinstance(weight := getattr(module, "weight", None), Tensor):
        if weight.ndim == 2:
            yield "weight", "linear", "bias"
        elif weight.ndim == 1 and "norm" in type(module).__name__.lower():
            yield "weight", "norm", "bias"


def is_conv1d(module: nn.Module) -> bool:
    """Say whether it is Hugging Face's Conv1D: x @ W + b, a linear map turned."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _transposed(module: nn.Module, weight: Tensor, bias: Any) -> bool:
    """Say whether the weight's first axis is the input."""
    if isinstance(module, (*TABLES, TURNED)):
        return True
    if isinstance(module, nn.Linear) or weight.ndim != 2:
        return False
    if is_conv1d(module):
        return True
    return bias is not None and len(bias) == weight.shape[1] != weight.shape[0]


def _sizes(kind: str, weight: Tensor, turned: bool, groups: int) -> tuple[int, int]:
    """Return the units and the fan-in of a weight."""
    shape = tuple(weight.shape)
    if kind == "norm":
        return prod(shape), 1
    if turned:
        return shape[1] * groups, shape[0] // groups * prod(shape[2:])
    return shape[0], prod(shape[1:])
