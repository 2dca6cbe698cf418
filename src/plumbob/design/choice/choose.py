"""The scheme for a site, by what follows it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from math import sqrt

import torch
from torch import nn

from plumbob.design import init
from plumbob.errors import InputError
from plumbob.survey.following import LEAKY, Facts
from plumbob.survey.layers import Layer
from plumbob.survey.outcome import heads
from plumbob.types import Site

GATES: Mapping[str, int] = {"LSTM": 4, "GRU": 3, "RNN": 1}
LEAKS = {"leaky_relu", "prelu"}
Draw = tuple[Callable[..., str] | None, str]  # what writes W (None: left), and why


class Chooser:
    """Chooses for one model.

    `output` is the one map that gives scores, where a loss says that it does; `ends`
    are the last maps of residual branches without a norm behind them, `normed_ends`
    those with one.
    """

    def __init__(
        self, facts: Facts, scheme: str | Callable[..., str], head: float, scored: bool
    ) -> None:
        self.facts = facts
        self.scheme = scheme
        self.zero = scheme == "zero-last"
        self.head = 0.0 if self.zero else head
        outputs = [s for s in heads(facts.sites) if s.kind != "norm"]
        self.scored = scored or any("loss" in name for name in facts.bends)
        plain = len(outputs) == 1 and not (
            outputs[0].ends_residual or outputs[0].name in outputs[0].fed_by
        )
        self.output = outputs[0].name if (self.scored or self.zero) and plain else None
        self.adapters = {s.name for s in facts.sites if _adapts(s, facts.sites)}
        ends = [s for s in facts.sites if s.ends_residual]
        ends = [s for s in ends if s.name not in self.adapters]
        self.ends = [s.name for s in ends if not s.norm]
        self.normed_ends = [s.name for s in ends if s.norm]
        if self.zero and not (ends or self.output or self.adapters):
            raise InputError(
                "expected residual branches or one output map for the scheme "
                "'zero-last', found neither; give data to trace the model with"
            )
        tied = any(s.kind == "embedding" and s.tied for s in facts.sites)
        self.short_tables = tied or any(s.kind == "norm" for s in facts.sites)

    def draw(self, layer: Layer) -> Draw:
        """Return what writes the layer's weights, and why."""
        site, scheme = layer.site, self.scheme
        if scheme in {"auto", "zero-last"}:
            return self._auto(layer)
        if not isinstance(scheme, str):
            return scheme, "as asked"
        if scheme == "normal":
            return init.normal, "as asked"
        if site.kind == "embedding":
            return self._table()
        if scheme == "mean-field":
            return self._mean_field(site)
        if scheme in {"he", "fixup"}:
            draw = partial(init.he, slope=self._slope(site))
            return draw, f"as asked, before {site.activation or 'relu'}"
        chosen = init.xavier if scheme == "xavier" else init.orthogonal
        return partial(chosen, parts=_parts(layer)), "as asked"

    def starts_at_zero(self, norm: Site) -> bool:
        """Say whether a norm ends a residual branch, which is to be the identity."""
        ends = norm.fed_by[0] if len(norm.fed_by) == 1 else ""
        return ends in self.normed_ends and self.zero

    def _auto(self, layer: Layer) -> Draw:
        site, parts = layer.site, _parts(layer)
        linear = partial(init.he, activation="linear")
        if site.kind == "embedding":
            return self._table()
        own = site.weight.rpartition(".")[2]
        if site.kind == "recurrent" and "_hh" in own:
            why = "applied at every step: it must not stretch"
            return partial(init.orthogonal, parts=parts), why
        if site.kind == "recurrent":
            why = "projects the state" if "_hr" in own else "read by gates"
            return partial(init.xavier, parts=parts), why
        if site.name == self.output and self.head:
            why = "the output" + (": small scores at first" if self.head < 1 else "")
            return partial(linear, scale=self.head), why
        if site.name == self.output:
            return init.zero_last, "the output: its bias alone at first"
        if isinstance(layer.module, nn.MultiheadAttention):
            return partial(init.xavier, parts=parts), "query, key or value"
        if site.norm:
            return linear, f"a {site.norm} follows and undoes any scale"
        if site.name in self.adapters:
            return init.zero_last, "added to a frozen map: nothing is adapted at first"
        if site.ends_residual and self.zero:
            return init.zero_last, "ends a residual branch: the identity at first"
        if site.ends_residual:
            n = len(self.ends)
            draw = partial(linear, scale=1 / sqrt(n))
            return draw, f"ends one of {n} residual branches"
        sine = "sin" in self.facts.bends and site.activation is None
        if sine or site.activation == "sin":
            return None, "a sine follows: its frequency sets the scale"
        if site.name not in self.facts.known:
            return init.xavier, self.facts.note
        return self._by_activation(site, linear)

    def _by_activation(self, site: Site, linear: Callable[..., str]) -> Draw:
        name = site.activation
        if name is None:
            return linear, "no activation follows"
        if site.gates:
            return linear, f"its {name} multiplies another's result"
        slope = self._slope(site)
        why = f"{name} of slope {slope:.4g}" if name in LEAKS else name
        if (grows := init.drift(name)) > 1.01:
            why += f"; a deviation grows {grows:.3g} times a layer unless norms undo it"
        return partial(init.he, activation=name, slope=slope), f"before {why}"

    def _slope(self, site: Site) -> float:
        return self.facts.slopes.get(site.weight, LEAKY)

    def _mean_field(self, site: Site) -> Draw:
        name = "identity" if site.is_output else site.activation or "identity"
        if name in LEAKS:
            name = f"leaky_relu({self._slope(site)})"
        try:
            at = _edge(name)
        except InputError as error:
            shape = [site.out, site.fan_in]
            raise InputError(f"{site.name} {shape}: {error}") from error
        draw = partial(init.draw_mean_field, sigma_w=at.sigma_w, sigma_b=at.sigma_b)
        why = f"edge of chaos of {name}: q* {at.q_star:.3g}, slope {at.slope:.3g}"
        return draw, why

    def _table(self) -> Draw:
        if self.short_tables:
            return _short, "rows of length 1: alike in a sum of tables, and as scores"
        return partial(init.normal, sd=1.0), "what reads it expects E[x^2] = 1"


def _adapts(site: Site, sites: Iterable[Site]) -> bool:
    """Say whether a map's result is added to that of a frozen one, as LoRA's is."""
    return (site.ends_residual and site.trainable and site.norm is None) and any(
        s.kind != "norm"
        and not s.trainable
        and (s.out, s.feeds) == (site.out, site.feeds)
        for s in sites
    )


def _short(layer: Layer, *, generator: torch.Generator) -> str:
    return init.normal(layer, generator=generator, sd=1 / sqrt(layer.site.out))


@cache
def _edge(activation: str) -> init.MeanField:
    """Find the edge of chaos at the usual biases, at none, or at large ones.

    Raises:
        InputError: there is none of use.
    """
    failed: InputError | None = None
    for sigma_b in (sqrt(0.05), 0.0, 0.5):
        try:
            found = init.mean_field(activation, sigma_b=sigma_b)
            return replace(found, sigma_b=sigma_b)
        except InputError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def _gates(layer: Layer) -> int:
    """Return how many gates a recurrent module stacks in its weights."""
    name = getattr(layer.module, "mode", type(layer.module).__name__)
    return next((n for key, n in GATES.items() if str(name).startswith(key)), 1)


def _parts(layer: Layer) -> int:
    """Return how many maps of equal size lie above each other in W."""
    if layer.site.kind == "recurrent":
        projects = "_hr" in layer.site.weight.rpartition(".")[2]
        return 1 if projects else _gates(layer)
    attention = layer.module
    if isinstance(attention, nn.MultiheadAttention):
        return max(1, layer.site.out // attention.embed_dim)
    return 1
