"""The parameters of a model: their values counted, their units compared, or loaded."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from plumbob.errors import FileError, InputError, did_you_mean
from plumbob.survey.census import BLOCK, RAW, UnitSums, census, decode, twins
from plumbob.survey.files import Entry, blocks, entries
from plumbob.types import Census, Rows, Site

MAPS = {"linear", "conv", "conv-transpose", "recurrent", "embedding"}

STATISTICS = {"running_mean", "running_var", "input_mean", "input_scale"}


class Weights:
    """Raw bits of what can be weighed; `unseen` says why not.

    Every parameter, the running mean and variance of norms, and the means and scales
    that `fold_centring` takes out of x; of some modules' own where these are named.
    """

    def __init__(
        self, model: nn.Module, modules: Collection[str] | None = None
    ) -> None:
        self.raw: dict[str, tuple[Shaped[Any, ...], str]] = {}
        self.trainable: dict[str, bool] = {}
        self.unseen: dict[str, str] = {}
        statistics = (
            (name, buffer)
            for name, buffer in model.named_buffers()
            if name.rpartition(".")[2] in STATISTICS
        )
        for name, parameter in (*model.named_parameters(), *statistics):
            if modules is not None and name.rpartition(".")[0] not in modules:
                continue
            if why := _unreadable(parameter):
                self.unseen[name] = why
            else:
                self.raw[name] = _bits(parameter)
                self.trainable[name] = parameter.requires_grad

    def of(self, site: Site) -> tuple[Shaped[Any, "outer out inner"], str] | None:
        """Return a site's weight with its units on the middle axis, and its dtype."""
        if site.kind not in MAPS or site.weight not in self.raw:
            return None
        raw, dtype = self.raw[site.weight]
        if site.rows:
            low, high = site.rows
            raw = raw[:, low:high] if site.transposed else raw[low:high]
        if raw.ndim < 2 or raw.size != site.out * site.fan_in:
            return None  # a computed shape
        outer = raw.shape[0] if site.transposed else 1
        if site.transposed and site.groups > 1:  # (in, out / groups, ...)
            outer //= site.groups
            parts = raw.reshape(site.groups, outer, site.out // site.groups, -1)
            raw = np.moveaxis(parts, 0, 1)
        return raw.reshape(outer, site.out, -1), dtype

    def bias(self, site: Site) -> tuple[Shaped[Any, " out"], str] | None:
        """Return the bits of a site's bias, of its own rows only."""
        if site.bias not in self.raw:
            return None
        raw, dtype = self.raw[site.bias or ""]
        raw = raw.reshape(-1)
        if site.rows and raw.size != site.out:
            raw = raw[site.rows[0] : site.rows[1]]
        return (raw, dtype) if raw.size == site.out else None


def weigh(
    model: nn.Module, sites: Sequence[Site]
) -> tuple[dict[str, Census], dict[str, Rows], dict[str, str]]:
    """Return a census by name, the rows of every site, and what was not seen.

    Integer, quantised, complex and meta parameters are not weighed.
    """
    weights = Weights(model)
    tensors = {
        name: census(raw, dtype, trainable=weights.trainable[name])
        for name, (raw, dtype) in weights.raw.items()
    }
    known = {site.name: site for site in sites}
    rows = {
        site.name: replace(found, **_outgoing(site, known, weights))
        for site in sites
        if (found := _rows(site, weights))
    }
    return tensors, rows, weights.unseen


def changed(
    model: nn.Module, modules: Collection[str], before: Mapping[str, Census]
) -> set[str]:
    """Return what of some modules' own is not what it was, by its moments and ends."""
    weights = Weights(model, modules)
    now = {name: census(*found) for name, found in weights.raw.items()}
    return {
        name
        for name, found in now.items()
        if name not in before or _values(found) != _values(before[name])
    }


def _values(c: Census) -> str:
    """Return the facts of a tensor's values, of which NaN shall equal NaN."""
    return repr((c.dtype, c.zeros, c.nans, c.infs, c.mean, c.var, c.low, c.high))


def matrices(
    model: nn.Module, sites: Sequence[Site], *, largest: int = 1 << 22
) -> dict[str, Float[Any, "out in"]]:
    """Return W of every site of at most `largest` elements, float64."""
    weights = Weights(model)
    found = {site.name: weights.of(site) for site in sites}
    return {
        name: np.moveaxis(decode(*view), 1, 0).reshape(view[0].shape[1], -1)
        for name, view in found.items()
        if view and view[0].size <= largest
    }


def _rows(site: Site, weights: Weights) -> Rows | None:
    weight, bias = weights.of(site), weights.bias(site)
    if weight is None:
        return None
    raw, dtype = weight
    sums = _sums(raw, dtype)
    # Units of different groups read different inputs: they are never twins.
    tags = [np.arange(site.out) * site.groups // site.out]
    return Rows(
        norm=np.sqrt(sums.units),
        columns=np.sqrt(sums.columns.reshape(-1)),
        twin=twins(
            sums.units, tags + ([bias[0]] if bias else []), lambda: _blocks(raw)
        ),
        bias=decode(*bias) if bias else None,
    )


def _outgoing(
    site: Site, known: Mapping[str, Site], weights: Weights
) -> dict[str, Any]:
    """Return the norms of what reads each unit, and which units are read alike.

    Two units are read alike only if nothing else is added to them on the way and the
    norms between scale both alike.
    """
    readers: list[tuple[Shaped[Any, "outer unit inner"], str]] = []
    tags: list[Shaped[Any, " unit"]] = []
    squares, alone = np.zeros(site.out), not site.is_output
    for feed in site.feeds:
        reader = known.get(feed.site)
        found = weights.of(reader) if reader and feed.repeat else None
        if not (reader and found) or reader.fan_in % site.out:
            return {}
        raw, dtype = found
        outer = 1 if reader.transposed else reader.out
        raw = raw.reshape(outer, site.out, -1)
        gain = np.ones(site.out)
        for norm in known.values():
            if norm.kind != "norm" or site.name not in norm.fed_by:
                continue
            if all(f.site != reader.name for f in norm.feeds):
                continue
            for name in filter(None, (norm.weight, norm.bias)):
                scale = weights.raw.get(name)
                if scale is None or scale[0].size != site.out:
                    return {}
                tags.append(scale[0].reshape(-1))
                if name == norm.weight:
                    gain = gain * decode(scale[0].reshape(-1), scale[1])
        squares += _sums(raw, dtype).units * gain**2
        readers.append((raw, dtype))
        alone &= set(reader.fed_by) <= {site.name}
    if not readers or site.is_output:
        return {}
    alike = None
    if alone:
        alike = twins(
            squares, tags, lambda: (b for r, _ in readers for b in _blocks(r))
        )
    return {"outgoing": np.sqrt(squares), "outgoing_twin": alike}


def _sums(raw: Shaped[Any, "outer unit inner"], dtype: str) -> UnitSums:
    sums = UnitSums(*raw.shape)
    for first, block in _blocks(raw):
        sums.add(first, decode(block, dtype))
    return sums


def _blocks(
    raw: Shaped[Any, "outer unit inner"],
) -> Iterator[tuple[tuple[int, int], Shaped[Any, "a b c"]]]:
    outer, units, inner = raw.shape
    step = max(1, BLOCK // max(inner if outer == 1 else units * inner, 1))
    if outer == 1:
        for i in range(0, units, step):
            yield (0, i), raw[:, i : i + step]
    else:
        for i in range(0, outer, step):
            yield (i, 0), raw[i : i + step]


def _unreadable(parameter: Tensor) -> str | None:
    if parameter.is_meta:
        return "on the meta device, which holds no values"
    if parameter.is_quantized or not parameter.is_floating_point():
        return f"{parameter.dtype}: not a floating-point weight"
    if type(parameter.data) is not Tensor:
        return f"a {type(parameter.data).__name__}, not a plain tensor"
    if _name(parameter.dtype) not in RAW:
        return f"{parameter.dtype} is not known here"
    return None


def _bits(parameter: Tensor) -> tuple[Shaped[Any, "..."], str]:
    """Return a tensor's bits as NumPy holds them, without a copy on the CPU."""
    values, dtype = parameter.detach().cpu().contiguous(), _name(parameter.dtype)
    if dtype == "bfloat16":
        return values.view(torch.int16).numpy().view("<u2"), dtype
    if RAW[dtype].itemsize == 1:
        return values.view(torch.uint8).numpy(), dtype
    return values.numpy(), dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def load(model: nn.Module, path: str | Path) -> None:
    """Put the weights of a safetensors file or folder into a model, or none of them.

    Values are converted to the model's dtype; what lies on the meta device gets
    memory. Of tied weights one is enough. Buffers that the model does not save stay.

    Raises:
        FileError: the file is truncated, hostile or of an unknown kind.
        InputError: names or shapes differ from the model's.
    """
    state = model.state_dict(keep_vars=True)
    found = matched(model, path)
    values: dict[str, Tensor] = {}
    for names in _by_tensor(state):
        target, value = state[names[0]], read(found[names[0]])
        if target.is_meta:
            values |= dict.fromkeys(names, value.to(target.dtype))
        else:
            with torch.no_grad():
                target.copy_(value)
    if values:
        model.load_state_dict(values, strict=False, assign=True)
        for first, *others in _by_tensor(state):
            for name in others if first in values else ():
                _set(model, name, _get(model, first))


def matched(model: nn.Module, path: str | Path) -> dict[str, Entry]:
    """Return where the values of a model's state are, by name, tied ones by each.

    A file may also hold buffers that the model has and does not save, as those of an
    older version of its class.

    Raises:
        FileError: the file is truncated, hostile or of an unknown kind.
        InputError: names or shapes differ from the model's.
    """
    found = {entry.name: entry for entry in entries(path)}
    state = model.state_dict(keep_vars=True)
    groups = list(_by_tensor(state))
    lost = [names for names in groups if not any(name in found for name in names)]
    computed = {n: b for n, b in model.named_buffers() if n not in state}
    missing = [name for names in lost for name in names]
    _agree(found, {**computed, **state}, missing, path)
    return {name: found[name] for name in computed if name in found} | {
        name: next(found[alias] for alias in names if alias in found)
        for names in groups
        for name in names
    }


def _by_tensor(state: Mapping[str, Tensor]) -> Collection[list[str]]:
    """Return the names of each tensor."""
    names: dict[int, list[str]] = {}
    for name, tensor in state.items():
        names.setdefault(id(tensor), []).append(name)
    return names.values()


def _agree(
    found: Mapping[str, Entry],
    state: Mapping[str, Tensor],
    missing: Sequence[str],
    path: str | Path,
) -> None:
    """Check names and shapes.

    Raises:
        InputError: one for all that differ.
    """
    faults = [f"'{name}' is missing" for name in missing]
    for name, entry in found.items():
        if name not in state:
            hint = did_you_mean(name, missing or state)
            faults.append(f"'{name}' is not in the model.{hint}".rstrip("."))
        elif tuple(state[name].shape) != entry.shape:
            faults.append(
                f"'{name}' has shape {entry.shape}, the model's "
                f"{tuple(state[name].shape)}"
            )
    if faults:
        told = "; ".join(faults[:8])
        told += f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise InputError(
            f"Expected the weights in {path} to fit the model, got {len(faults)} "
            f"differences: {told}{'' if told[-1] == '?' else '.'} Build the model "
            f"with the configuration that the file was saved from."
        )


def read(entry: Entry) -> Tensor:
    """Return the values of a tensor in a file.

    Raises:
        FileError: torch does not have its dtype, or the file ends too early.
    """
    dtype, size = dtype_of(entry), entry.stop - entry.start
    if not size:
        return torch.empty(entry.shape, dtype=dtype)
    raw = next(blocks(entry, np.dtype("u1"), size))
    return torch.from_numpy(raw).view(dtype).reshape(entry.shape)


def dtype_of(entry: Entry) -> torch.dtype:
    """Return what the values of a tensor in a file are stored as.

    Raises:
        FileError: torch does not have it.
    """
    dtype = getattr(torch, entry.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise FileError(
            f"Expected a dtype that torch has for '{entry.name}' in {entry.path}, got "
            f"{entry.dtype}."
        )
    return dtype


def _get(model: nn.Module, name: str) -> Any:
    path, _, last = name.rpartition(".")
    return getattr(model.get_submodule(path), last)


def _set(model: nn.Module, name: str, value: Any) -> None:
    path, _, last = name.rpartition(".")
    setattr(model.get_submodule(path), last, value)
