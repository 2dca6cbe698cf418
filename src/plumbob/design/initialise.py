"""Initial weights and biases for a whole model, site by site, with the reasons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import nn

from plumbob.columns import columns
from plumbob.design import init
from plumbob.design.choice import Chooser
from plumbob.errors import InputError, did_you_mean
from plumbob.survey.batches import Batch, batches
from plumbob.survey.following import look
from plumbob.survey.graph import NORMS, inner
from plumbob.survey.guard import or_as_before, same_random
from plumbob.survey.layers import Layer, layers
from plumbob.survey.modules import computed
from plumbob.survey.output import output_facts
from plumbob.survey.probe import probe
from plumbob.types import Site

GATED = (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell)
WHOLE = ("auto", "fixup", "lsuv", "zero-last")


@dataclass(frozen=True, slots=True)
class Row:
    """What was done at one site, and why."""

    site: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Initialised:
    """What was done, in the order of execution; `print` shows it."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        """Return a table."""
        cells = [(row.site, row.what, row.why) for row in self.rows]
        return columns(("site", "what", "why"), cells)


def initialise_(
    model: nn.Module,
    data: Any = None,
    *,
    targets: Any = None,
    loss: Callable[..., Any] | None = None,
    scheme: str | Callable[..., str] = "auto",
    seed: int = 0,
    head: float = 1.0,
    limit: int | None = None,
) -> Initialised:
    """Write initial weights and biases into a model, by what follows each map.

    Why: the right variance of W depends on what comes after it: an activation, a
    norm, a residual sum, a gate, or the loss. The graph knows; a loop over modules
    does not.

    "auto" gives, in this order: tables N(0, s^2); recurrent matrices orthogonal, gate
    by gate, and gates that keep the state a bias of 1; the output layer `head` times
    its variance-preserving weights; packed attention Xavier's, part by part; maps
    before a norm variance 1/fan_in (the norm undoes any scale); the last map of each
    of n residual branches 1/sqrt(n) of that; maps before an activation He's with that
    activation's own gain; all others 1/fan_in. Biases are 0. Frozen parameters, norms,
    and weights that are computed from others are left, each with a row that says so.

    Every site has a generator of its own, made of the seed and its name: a layer gets
    the same weights whatever else the model holds, on any device. Random states are
    left as found, and on an error so is the model.

    Args:
        model: written in place.
        data: what the training loop feeds; for the graph. Without it only what the
            modules make certain is known.
        targets: of a single batch.
        loss: as the training loop calls it; with data, the output's bias is then
            shifted to where this loss is lowest: the targets' prior. So it is by a
            loss that the model takes itself, where its value tells which it is.
        scheme: "auto"; "zero-last" (auto, with residual ends, or the scales of norms
            behind them, and the output at 0: what is 0 must grow first); "he",
            "mean-field", "normal", "orthogonal" or "xavier" for every map; "lsuv" or
            "fixup"; or a function `scheme(layer, *, generator) -> str`.
        seed: of the random numbers.
        head: factor of the output's weights where a loss says that it gives scores.
            Below 1 the first loss is nearer to that of the prior alone, and the scores
            must grow first.
        limit: the largest number of batches taken from a loader.

    Returns:
        A table of what was done at each site and why.

    Raises:
        InputError: the scheme does not exist or does not apply, or the model or data
            cannot be used as given.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
        >>> print(initialise_(model))
        site  what                                    why
        0     He: N(0, 0.7071^2), gain 1.414; b zero  before relu
        2     He: N(0, 0.125^2), gain 1; b zero       no activation follows
    """
    model = inner(model)
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"expected a torch.nn.Module, got {type(model).__name__}")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(
                f"{name} has no shape yet; run one batch through the model first"
            )
    if isinstance(scheme, str) and scheme not in {*WHOLE, *init.SCHEMES}:
        names = sorted({*WHOLE, *init.SCHEMES})
        raise InputError(
            f"expected a scheme of {', '.join(names)}, or a function, got {scheme!r}."
            + did_you_mean(scheme, names)
        )
    if scheme == "lsuv" and data is None:
        raise InputError("expected data for the scheme 'lsuv', got none; pass data=")
    with same_random(), or_as_before(model):
        torch.manual_seed(_number(f"{seed}"))  # of dropout, of a loader that shuffles
        every: list[Batch] = []
        if data is not None:
            feed = batches(model, data, targets=targets, loss=loss, limit=limit)
            every = list(feed)
        facts = look(model, every)
        if every and facts.note:  # not traced: can it be run at all?
            probe(model, every[:1], facts.sites, gradients=False)
        choose = Chooser(facts, scheme, head, loss is not None)
        work = _Work(model, facts.sites, choose, seed)
        if scheme == "lsuv":
            work.add(init.lsuv(model, work.scalable(), every))
        if scheme == "fixup":
            work.add(init.fixup(facts.sites, work.drawn))
        if choose.scored and every:
            work.add(work.prior(every, loss))
        return Initialised(tuple(work.rows.values()))


class _Work:
    """Writes every site and notes what was done; the rows are in its order."""

    def __init__(
        self, model: nn.Module, sites: Sequence[Site], choose: Chooser, seed: int
    ) -> None:
        self.model = model
        self.choose = choose
        self.seed = seed
        self.rows: dict[str, Row] = {}
        self.drawn: dict[str, Layer] = {}
        self.sites = sites
        self.layers, unseen = layers(model, sites)
        for site in sites:
            if site.kind == "norm":
                self._norm(site)
            elif site.name in self.layers:
                self._layer(self.layers[site.name])
            else:
                self._leave(site.name, unseen[site.name])
        if any(isinstance(m, GATED) for m in model.modules()):
            of_bias = {site.bias: site.name for site in sites}
            said = init.forget_gate_(model)
            self.add({of_bias[b]: t for b, t in said.items() if b in of_bias})
        held = {name for site in sites for name in (site.weight, site.bias)}
        made = computed(model)
        for name, parameter in model.named_parameters():
            if name not in held:
                self._leave(name, _why_not(name, parameter, made))

    def add(self, said: Mapping[str, str]) -> None:
        """Add to what was done, by the site's name."""
        for name, what in said.items():
            row = self.rows[name]
            self.rows[name] = replace(row, what=f"{row.what}; {what}")

    def scalable(self) -> list[Layer]:
        """Return the layers whose z is a plain sum that no norm scales again."""
        apart = {"embedding", "recurrent"}
        return [
            layer
            for layer in self.drawn.values()
            if layer.site.kind not in apart and not layer.site.norm
        ]

    def prior(
        self, every: Sequence[Batch], loss: Callable[..., Any] | None
    ) -> dict[str, str]:
        """Shift the output's bias to where the user's own loss is lowest.

        A class that does not occur gets what the rarest one gets.
        """
        site = next((s for s in self.sites if s.name == self.choose.output), None)
        if site is None:
            self._leave("output", "prior not set: no single map gives the scores")
            return {}
        layer = self.layers.get(site.name)
        if layer is None or layer.bias is None or not layer.bias.requires_grad:
            return {site.name: "no bias that could hold the prior"}
        seen = probe(self.model, every, self.sites, loss=loss, gradients=False)
        loss = loss or seen.own_loss
        if loss is None:
            return {site.name: "prior not set: the model's own loss is not recognised"}
        z = [(site, seen.net_inputs[site.name])] if site.name in seen.net_inputs else []
        found, why = output_facts(z, seen.outputs, seen.targets, loss)
        if found is None or found.site is None or len(found.shift) != site.out:
            reason = why.get("targets", "the outputs are no known function of it")
            return {site.name: f"prior not set: {reason}"}
        shift = np.array(found.shift)
        if found.mean_target is not None and len(found.mean_target) == len(shift) > 1:
            absent = found.mean_target == 0
            shift[absent] = shift[~absent].min(initial=0.0)
        bias = layer.vector()
        assert bias is not None
        layer.shift(bias.cpu().double() + torch.from_numpy(shift))
        what = f"b at the targets' prior: loss {found.loss:.4g} to {found.shifted:.4g}"
        return {site.name: what}

    def _leave(self, name: str, why: str) -> None:
        self.rows[name] = Row(name, "left", why)

    def _norm(self, site: Site) -> None:
        scale = self.model.get_parameter(site.weight)
        module = self.model.get_submodule(site.weight.rpartition(".")[0])
        if not scale.requires_grad:
            self._leave(site.name, "frozen (requires_grad=False)")
        elif self.choose.starts_at_zero(site) and isinstance(module, NORMS):
            what = f"scale {init.zero_scale(scale)}"
            why = "ends a residual branch: the identity at first"
            self.rows[site.name] = Row(site.name, what, why)
        else:
            self._leave(site.name, "a norm's scale and shift")

    def _layer(self, layer: Layer) -> None:
        name = layer.site.name
        same = [other for other in self.drawn.values() if _overlap(other, layer)]
        if not layer.weight.requires_grad:
            what, why = "left", "frozen (requires_grad=False)"
        elif same:
            what, why = "left", f"its weight is that of {same[0].site.name}"
        else:
            draw, why = self.choose.draw(layer)
            if draw is None:
                self._leave(name, why)
                return
            what = draw(layer, generator=self._generator(layer))
            self.drawn[name] = layer
        self.rows[name] = Row(name, what + self._bias(layer), why)

    def _bias(self, layer: Layer) -> str:
        if layer.bias is None or self.choose.scheme == "mean-field":
            return ""
        if not layer.bias.requires_grad:
            return "; b left (frozen)"
        layer.shift(torch.zeros(layer.site.out))
        return "; b zero"

    def _generator(self, layer: Layer) -> torch.Generator:
        text = f"{self.seed} {layer.site.weight} {layer.site.rows}"
        return torch.Generator().manual_seed(_number(text))


def _number(text: str) -> int:
    """Return a seed that torch takes, other for every text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _overlap(a: Layer, b: Layer) -> bool:
    """Say whether two layers have weights in common."""
    if a.weight.data_ptr() != b.weight.data_ptr():
        return False
    (low, high), (start, end) = (x.site.rows or (0, x.weight.numel()) for x in (a, b))
    return low < end and start < high


def _why_not(name: str, parameter: nn.Parameter, made: Mapping[str, str]) -> str:
    if not parameter.requires_grad:
        return "frozen (requires_grad=False)"
    for path, why in made.items():
        if name.startswith(f"{path}."):
            return f"{path}: {why}"
    return "in no affine map that is known, or not used on these data"
