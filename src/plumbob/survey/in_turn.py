"""Biases set on data one site after the other, each measured after those before it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.columns import Done
from plumbob.errors import InputError, did_you_mean
from plumbob.survey.batches import batches
from plumbob.survey.following import look
from plumbob.survey.graph import inner
from plumbob.survey.guard import or_as_before, same_random
from plumbob.survey.layers import Layer, layers
from plumbob.survey.modules import computed
from plumbob.survey.probe import probe
from plumbob.types import Reading, Site

ROUNDS = 20  # for a map that reads its own result
OUTPUT = "the output: its bias has schemes of its own"
Shift = Float[np.ndarray, " out"]


def set_in_turn(
    model: nn.Module,
    data: Any,
    *,
    targets: Any,
    limit: int | None,
    sites: Iterable[str] | str | None,
    why_not: Callable[[Site], str | None],
    shift: Callable[[Site, Reading], Shift],
    say: Callable[[Reading], str],
    keep: int = 0,
) -> Done:
    """Add a shift to the bias of each site, in the order of execution, in place.

    The model runs in the mode that it is in, once per site (ROUNDS times where a module
    that is used several times reads its own result) and once at the end; on an error
    it is left as found.

    Args:
        model: what to change.
        data: what the training loop feeds; the same batches for all sites.
        targets: of a single batch.
        limit: the largest number of batches taken from a loader.
        sites: names or globs of the sites to set, all that fit; None: all but those
            that `why_not` gives a reason for.
        why_not: why a site is left if not asked for by name, or None.
        shift: what to add to b, by what was measured.
        say: what to tell of a site's z when all is done.
        keep: the number of rows of z that `shift` gets to see.

    Returns:
        What was done at each site, or why it was left.

    Raises:
        InputError: a name fits no site, or the data cannot be used.
    """
    model = inner(model)
    with same_random(), or_as_before(model):
        every = list(batches(model, data, targets=targets, limit=limit))
        facts = look(model, every)
        asked = _asked(sites, facts.sites)
        done = Done()
        written: dict[str, tuple[Layer, Tensor]] = {}

        def read(*names: str, keep: int = keep) -> Mapping[str, Reading]:
            only = set(names)
            return probe(
                model, every, facts.sites, keep=keep, gradients=False, only=only
            ).readings

        for site, layer, reason in _candidates(model, facts.sites):
            if sites is not None and site.name not in asked:
                continue
            if sites is None and not reason:
                reason = OUTPUT if site.is_output and not site.feeds else why_not(site)
                if site.name not in facts.known:
                    reason = facts.note
            if layer is not None and not reason:
                reason = _shared(layer, [other for other, _ in written.values()])
            before = None if layer is None else layer.vector()
            rounds = ROUNDS if site.name in site.fed_by else 1
            for _ in range(0 if reason or layer is None else rounds):
                reading = read(site.name).get(site.name)
                if reading is None or reading.z is None:
                    reason = "not measured on these data"
                    break
                _add(layer, shift(site, _finite(site, reading)))
            if layer is None or before is None or reason:
                done[site.name] = f"left: {reason}"
            else:
                written[site.name] = (layer, before)
                done[site.name] = ""  # keeps the order
        if sites is None:
            done |= {n: f"left: {why}" for n, why in computed(model).items()}
        found = read(*written, keep=0) if written else {}
        for name, (layer, before) in written.items():
            after = layer.vector()
            most = 0.0 if after is None else float((after - before).abs().max())
            done[name] = f"b moved by up to {most:.3g}: {say(found[name])}"
    return done


def _asked(sites: Iterable[str] | str | None, known: Iterable[Site]) -> set[str]:
    """Return the names that were asked for.

    Raises:
        InputError: one fits no site.
    """
    names = [site.name for site in known]
    asked = set[str]()
    for glob in [sites] if isinstance(sites, str) else sites or ():
        fits = {name for name in names if fnmatchcase(name, glob)}
        if not fits:
            raise InputError(
                f"expected the name of a site or a glob, got '{glob}', which fits none "
                f"of {', '.join(names)}.{did_you_mean(glob, names)}"
            )
        asked |= fits
    return asked


def _candidates(
    model: nn.Module, sites: tuple[Site, ...]
) -> Iterator[tuple[Site, Layer | None, str | None]]:
    """Yield each site with its layer, or with why its bias cannot be written."""
    found, unseen = layers(model, sites)
    for site in sites:
        layer = _norm(model, site) if site.kind == "norm" else found.get(site.name)
        if layer is None:
            yield site, None, unseen[site.name]
        elif site.kind == "embedding":
            yield site, None, "a table has no bias"
        elif site.bias is None or layer.bias is None:
            yield site, layer, "it has no bias"
        elif not layer.bias.requires_grad:
            yield site, layer, "frozen (requires_grad=False)"
        elif site.kind == "recurrent":
            yield site, layer, "its gates have schemes of their own (forget_gate_)"
        else:
            yield site, layer, None


def _norm(model: nn.Module, site: Site) -> Layer:
    module = model.get_submodule(site.weight.rpartition(".")[0])
    bias = model.get_parameter(site.bias) if site.bias else None
    weight = model.get_parameter(site.weight)
    return Layer(site=site, module=module, weight=weight, bias=bias)


def _shared(layer: Layer, written: Iterable[Layer]) -> str | None:
    for other in written:
        if other.bias is layer.bias and other.site.rows == layer.site.rows:
            return f"its bias is that of {other.site.name}"
    return None


def _add(layer: Layer | None, step: Shift) -> None:
    assert layer is not None
    bias = layer.vector()
    assert bias is not None  # or it had been left
    with torch.no_grad():
        layer.shift((bias.double().cpu() + torch.from_numpy(step)).to(bias))


def _finite(site: Site, reading: Reading) -> Reading:
    if reading.z is not None and bool(reading.z.nonfinite.any()):
        raise InputError(
            f"expected finite values from {site.name} {[site.out, site.fan_in]}, got "
            "others; look at the data, or at what comes before it"
        )
    return reading
