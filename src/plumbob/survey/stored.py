"""From names and shapes of tensors to affine maps, where no model is at hand."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from plumbob.survey.census import RAW
from plumbob.survey.files import Entry
from plumbob.types import Site

TABLE = re.compile(r"emb(ed(ding)?s?)?$|^embed|^(wte|wpe|shared|lookup)$|codebook")
RECURRENT = re.compile(r"(?P<head>(?:.*\.)?)weight_(?P<which>[ih]h)(?P<layer>_?.*)")
TALL = 8  # a matrix without bias, this many times as tall as wide, is a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """A site found by name, and how its weight lies: (outer, out, inner).

    `view` is None where the units cannot be told; `why` says so.
    """

    site: Site
    view: tuple[int, int, int] | None
    why: str = ""


def maps(entries: Iterable[Entry]) -> tuple[Map, ...]:
    """Return the maps that a checkpoint's tensors form, in the file's order.

    `X.weight` with 2 dimensions is (out, in), as torch stores it, unless its bias has
    the length of the second: GPT-2's Conv1D stores (in, out) and always has a bias,
    so a matrix without one is (out, in). A square matrix with a bias is (out, in) too
    if no matrix of the checkpoint is certainly (in, out); beside one it may be
    either (GPT-2's attention has both) and its units are not told. A table
    (embedding) is known by its name, or by being far taller than wide without a bias.
    """
    tensors = {entry.name: entry for entry in entries if entry.dtype in RAW}
    transposed = any(
        _length(tensors, entry) == entry.shape[1] != entry.shape[0]
        for entry in tensors.values()
        if entry.name.endswith("weight") and len(entry.shape) == 2
    )
    found = (_map(entry, tensors, transposed) for entry in tensors.values())
    return tuple(m for m in found if m)


def bias_name(weight: str) -> str:
    """Return what the bias of a weight is called."""
    if match := RECURRENT.fullmatch(weight):
        return f"{match['head']}bias_{match['which']}{match['layer']}"
    return weight.removesuffix("weight") + "bias"


def _length(tensors: Mapping[str, Entry], entry: Entry) -> int | None:
    bias = tensors.get(bias_name(entry.name))
    return bias.shape[0] if bias and len(bias.shape) == 1 else None


def _map(entry: Entry, tensors: Mapping[str, Entry], transposed: bool) -> Map | None:
    head, _, last = entry.name.rpartition(".")
    recurrent = RECURRENT.fullmatch(entry.name) is not None
    if last not in {"weight", "in_proj_weight"} and not recurrent:
        return None
    if not entry.shape or 0 in entry.shape:
        return None
    bias = _length(tensors, entry)
    kind, view, why = _lie(entry.shape, bias, head, recurrent, transposed)
    if bias is not None and view and bias != view[1]:
        view, why = None, f"its bias has {bias} values, its shape is {entry.shape}"
    units = view[1] if view else entry.shape[0]
    site = Site(
        name=head if last == "weight" and head else entry.name,
        kind=kind,
        out=units,
        fan_in=prod(entry.shape) // units,
        weight=entry.name,
        bias=bias_name(entry.name) if bias is not None else None,
        transposed=view is not None and view[0] > 1,
    )
    return Map(site=site, view=view, why=why)


def _lie(
    shape: tuple[int, ...],
    bias: int | None,
    head: str,
    recurrent: bool,
    transposed: bool,
) -> tuple[str, tuple[int, int, int] | None, str]:
    out, *rest = shape
    rows = (1, out, prod(rest))
    if not rest:
        return "norm", None, ""
    if recurrent:
        return "recurrent", rows, ""
    if len(rest) == 1:
        wide = rest[0]
        if bias is None and (_is_table(head) or out >= TALL * wide):
            return "embedding", (out, wide, 1), ""
        if bias == wide != out:
            return "linear", (out, wide, 1), ""
        if bias == wide and transposed:
            why = "square, beside matrices stored (in, out): either way is possible"
            return "linear", None, why
        return "linear", rows, ""
    if bias not in {None, out} and bias == rest[0]:
        return "conv-transpose", (out, rest[0], prod(rest[1:])), ""
    if rest[0] == 1:
        return "conv", None, "perhaps depthwise: its units may read different inputs"
    return "conv", rows, ""


def _is_table(head: str) -> bool:
    return TABLE.search(head.rpartition(".")[2].lower()) is not None
