"""Which module's result is z of a site, and where in it the units are."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.parameter import is_lazy

from plumbob.survey.modules import computed
from plumbob.types import Site

SO = "; judged on parameters and gradients only"
FUSED = "a recurrent kernel computes it inside" + SO
PACKED = "its attention computes it inside" + SO
MIXED = "the module that holds it has parts, so its result may be another's" + SO
SCRIPT = "torch.jit.script has compiled it, and it takes no hooks" + SO
LAZY = "its weights are made at the first call: call the model once before"
NAMES = ("linear", "conv", "embedding")
STRANGE = "its weights are not plain real numbers in a map that is known"


class Place(NamedTuple):
    """The units are on `axis` of the module's (first) result, or its `flat` last."""

    module: nn.Module
    axis: int = -1
    flat: int = 1


def place(
    model: nn.Module, site: Site, modules: Mapping[str, nn.Module]
) -> Place | str:
    """Return where z of a site appears, or why nowhere; of all modules by name."""
    own = site.name if site.name in modules else site.name.rpartition(".")[0]
    module = modules[own]
    parent = modules[own.rpartition(".")[0]]
    if isinstance(module, torch.jit.ScriptModule):
        return SCRIPT
    if isinstance(module, nn.MultiheadAttention):
        return PACKED
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return FUSED
    if isinstance(parent, nn.MultiheadAttention):
        return Place(parent)  # the result of out_proj is the first of the attention
    if isinstance(module, (_NormBase, nn.GroupNorm)):
        return Place(module, 1)
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return Place(module, -1, len(module.normalized_shape))
    if site.kind in {"conv", "conv-transpose"}:
        return Place(module, 1 - model.get_parameter(site.weight).ndim)
    known = isinstance(module, (nn.Linear, nn.Embedding, nn.EmbeddingBag))
    return Place(module) if known or not any(module.children()) else MIXED


def unknown(model: nn.Module, sites: Iterable[Site]) -> dict[str, str]:
    """Return the modules that by their names should be maps, but are no sites."""
    found = computed(model)
    names = {name for s in sites for name in (s.name, s.weight.rpartition(".")[0])}
    for path, module in model.named_modules():
        kind = type(module).__name__.lower()
        if path in names or path in found or any(module.children()):
            continue
        if any(is_lazy(p) for p in module.parameters()):
            found[path] = LAZY
        elif any(word in kind for word in NAMES) and _wide(module):
            found[path] = STRANGE
    return found


def _wide(module: nn.Module) -> bool:
    """Whether it holds a table or a matrix, as rotary embeddings do not."""
    return any(t.ndim > 1 for t in (*module.parameters(), *module.buffers()))
