"""Whether a site still holds its initial values: said, refuted or matched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, prod, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from plumbob.survey.optimizer import each, steps
from plumbob.types import Site, Stage

_ENOUGH = 24.0  # bits: chance of a false match below 1e-7
_CLOSE = 5.0  # standard errors within which a moment agrees
_AT_MOST = 1 << 20  # values of one tensor that are looked at


def stages(
    model: nn.Module, sites: Sequence[Site], optimizer: Any, said: Stage | None
) -> dict[str, Stage]:
    """Return the stage of every site.

    Why:
        Some faults exist only before training, so a wrong `INIT` is a false alarm,
        while `UNKNOWN` only leaves a rule unjudged. A site is therefore `INIT` only
        on evidence that one optimiser step destroys:

        - a bias or scale that is one constant, as zeros and ones are;
        - uniform values that lie exactly on the grid of the generator: torch draws
          u = k / 2^24 and stores fl(u (hi - lo) + lo), and near 0 a float32 is far
          finer than that grid, so that a moved weight falls beside it. This also
          tells a bound whose support merely happens to hold the values.

        Normal values have no grid. Their mean, variance and kurtosis must be those
        of a named initialiser, and the site's own bias, or every trainable vector of
        the model, must be untouched besides.

    Args:
        model: where the parameters are.
        sites: the sites asked about.
        optimizer: what `optimizer_facts` takes, or None. Steps in the state that it
            keeps of a parameter make that `TRAINED`.
        said: by the user; it holds for every site, whatever the evidence.

    Returns:
        Site name to stage. Batch-norm counters above zero leave no site `INIT`.
    """
    if said is not None:
        return {site.name: said for site in sites}
    trained = _stepped(optimizer, model)
    ran = any(
        int(buffer) > 0
        for name, buffer in model.named_buffers()
        if name.endswith("num_batches_tracked") and not buffer.is_meta
    )
    looks = _Looks(dict(model.named_parameters(remove_duplicate=False)))
    vectors = [n for n, p in looks.of.items() if p.requires_grad and p.ndim <= 1]
    untouched = bool(vectors) and all(looks.sharp(name) for name in vectors)

    def stage(site: Site) -> Stage:
        own = [p for p in (site.weight, site.bias) if p]
        if trained.intersection(own):
            return Stage.TRAINED
        if ran or not all(looks.usable(p) for p in own):
            return Stage.UNKNOWN
        still = looks.sharp(site.weight) or untouched
        if site.bias:
            if not looks.initial_bias(site.bias, site.weight):
                return Stage.UNKNOWN
            still = still or looks.sharp(site.bias)
        return Stage.INIT if still and looks.initial(site.weight) else Stage.UNKNOWN

    found = {site.name: stage(site) for site in sites if site.weight}
    for site in sites:
        if site.name not in found:  # a sum of maps
            of = {found.get(name, Stage.UNKNOWN) for name in site.fed_by}
            found[site.name] = of.pop() if len(of) == 1 else Stage.UNKNOWN
    return found


def _stepped(optimizer: Any, model: nn.Module) -> set[str]:
    """Return the parameters that a step is kept of.

    LBFGS keeps one state for all, under its first parameter.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    found = set[str]()
    for one in each(optimizer) if optimizer is not None else ():
        state = {p: kept for p, kept in one.state.items() if steps({p: kept})}
        every = [p for group in one.param_groups for p in group["params"]]
        shared = bool(state) and isinstance(one, torch.optim.LBFGS)
        found |= {names.get(id(p), "") for p in (every if shared else state)}
    return found


@dataclass
class _Looks:
    """What single parameters look like, looked at once."""

    of: dict[str, nn.Parameter]

    def __post_init__(self) -> None:
        self._sharp: dict[str, bool] = {}

    def usable(self, name: str) -> bool:
        """Return whether values are there to be looked at."""
        p = self.of.get(name)
        return (
            p is not None and not p.is_meta and p.is_floating_point() and p.numel() > 0
        )

    def sharp(self, name: str) -> bool:
        """Return whether one step of an optimiser would show: a constant, or on grid.

        A single number is called constant only where it is 0 or 1.
        """
        if name not in self._sharp:
            p = self.of.get(name)
            self._sharp[name] = (
                p is not None
                and self.usable(name)
                and (_constant(p) or any(_on_grid(p, b) for b in _bounds(p)))
            )
        return self._sharp[name]

    def initial(self, name: str) -> bool:
        """Return whether a weight is as a named initialiser leaves it."""
        p = self.of[name]
        return self.sharp(name) or _normal(p) or _orthogonal(p)

    def initial_bias(self, name: str, weight: str) -> bool:
        """Return whether a bias is constant or within the support of its weight."""
        p, w = self.of[name], self.of[weight]
        if _constant(p):
            return True
        high = float(p.detach().abs().max())
        return any(high <= b for b in _bounds(w)) and any(
            _on_grid(p, b, enough=0.0) for b in _bounds(w)
        )


def _constant(p: Tensor) -> bool:
    values = p.detach().flatten()
    first = float(values[0]) if values.numel() else float("nan")
    return bool((values == first).all()) and (values.numel() > 1 or first in {0.0, 1.0})


def _fans(p: Tensor) -> tuple[int, int]:
    """Return fan_in and fan_out as `torch.nn.init` counts them."""
    if p.ndim < 2:
        return p.numel(), p.numel()
    field = prod(p.shape[2:])
    return p.shape[1] * field, p.shape[0] * field


def _variances(p: Tensor) -> Iterator[float]:
    """Yield the variances that named initialisers give a tensor of this shape."""
    fan_in, fan_out = _fans(p)
    for gain in (1.0, 2.0, 25 / 9):  # linear, relu, tanh
        yield gain / fan_in
        yield gain / fan_out
        yield 2 * gain / (fan_in + fan_out)
    yield 1 / (3 * fan_in)  # torch's default for Linear and Conv
    rows = p.shape[0] if p.ndim else 1
    for gates in (1, 3, 4):  # RNN, GRU, LSTM: 1/sqrt(hidden)
        if rows % gates == 0:
            yield gates / (3 * rows)


def _bounds(p: Tensor) -> Iterator[float]:
    return (sqrt(3 * v) for v in sorted(set(_variances(p))))


def _thin(p: Tensor) -> Tensor:
    values = p.detach().flatten()
    return values[:: max(1, values.numel() // _AT_MOST)].cpu()


def _on_grid(p: Tensor, bound: float, *, enough: float = _ENOUGH) -> bool:
    """Return whether float32 values can all have been drawn from +-bound.

    The largest must be as close to the bound as the largest of so many draws is, and
    the bits by which each value hits the grid more finely than its own spacing must
    add up to `enough`.
    """
    if p.dtype is not torch.float32:
        return False
    high = float(p.detach().abs().max())
    if high > bound * (1 + 1e-6):
        return False
    if enough and high < bound * exp(-log(2) * enough / p.numel()):
        return False
    w = _thin(p).numpy()
    near = np.float32(bound)
    # The initialiser's own arithmetic may round the bound one float up or down.
    around = (
        near,
        np.nextafter(near, np.float32(0)),
        np.nextafter(near, np.float32(9)),
    )
    return any(_hits(w, b) >= enough for b in around)


def _hits(w: Float32[np.ndarray, " n"], bound: np.float32) -> float:
    """Return bits of evidence that w = fl(k / 2^24 * 2 bound - bound); -1 if not."""
    low, span = -float(bound), float(bound - -bound)
    drawn = np.rint((w.astype(np.float64) - low) / span * 2.0**24) / 2.0**24
    # Fused as most builds do it, or rounded twice.
    fused = (drawn * span + low).astype(np.float32)
    twice = (drawn * span).astype(np.float32) + np.float32(low)
    if not ((fused == w) | (twice == w)).all():
        return -1.0
    finer = span / 2.0**24 / np.spacing(np.maximum(np.abs(w), np.float32(1e-30)))
    return float(np.log2(np.maximum(finer, 1.0)).sum())


def _normal(p: Tensor) -> bool:
    """Return whether mean, variance and kurtosis are those of a named normal.

    Named: N(0, v) with v of Kaiming or Xavier, N(0, 1) of tables, N(0, .02^2) of
    transformers, all over 2 layers too, plain or cut at two standard deviations. A
    row of zeros (padding) is left out.
    """
    values = p.detach()
    if p.ndim == 2:
        values = values[(values != 0).any(1)]
    x = _thin(values).double()
    n = x.numel()
    if n < 64:
        return False
    mean, var = float(x.mean()), float(x.var(correction=0))
    kurtosis = float(((x - mean) ** 4).mean()) / var**2 if var else 0.0
    if abs(mean) > _CLOSE * sqrt(var / n):
        return False
    for peak, cut in ((3.0, 1.0), (2.3690, 0.77374)):  # plain, cut at 2 sd
        if abs(kurtosis - peak) > _CLOSE * sqrt(24 / n):
            continue
        slack = _CLOSE * sqrt((peak - 1) / n)
        if any(
            abs(var / (v * scale) - 1) < slack
            for v in _normal_variances(p)
            for scale in (1.0, cut)
        ):
            return True
    return False


def _normal_variances(p: Tensor) -> Iterator[float]:
    yield from _variances(p)
    yield 1.0
    for layers in range(97):  # GPT-2 divides the last of each branch by sqrt(2 layers)
        yield 0.02**2 / max(1, 2 * layers)


def _orthogonal(p: Tensor) -> bool:
    """Return whether rows (or columns) are orthogonal with norm 1, sqrt 2 or 5/3."""
    w = p.detach().flatten(1).double() if p.ndim > 1 else p.detach()[:0, None]
    w = w.T if w.shape[0] > w.shape[1] else w
    if not 2 <= w.shape[0] <= 1024:
        return False
    gram = w @ w.T
    gain = gram.diagonal().mean()
    exact = torch.allclose(gram, gain * torch.eye(len(gram)).to(gram), atol=1e-5)
    return exact and any(abs(float(gain) - g) < 1e-4 for g in (1.0, 2.0, 25 / 9))
