"""What of a log and of findings is shown in charts and texts: bounded, never NaN."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from plumbob.types import Finding, Log, Survey, Window

BARS = 30
MOST = 6  # sites with histograms of their own
SAMPLE = 2**15  # elements of a weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between edges, and the first two sums of what was counted."""

    edges: Float[Any, " edges"]
    counts: Int[Any, " bars"]
    total: float
    squares: float


def histogram(values: Float[Any, " n"]) -> Histogram | None:
    """Count the finite values in bars of one width; None where there are none.

    Example:
        >>> import numpy as np
        >>> found = histogram(np.array([0.0, 1.0, 1.0, np.nan]))
        >>> int(found.counts[0]), int(found.counts[-1]), found.total
        (1, 2, 2.0)
    """
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    # values that are all but equal would leave no room for bars between them
    room = 1e-9 * max(abs(low), abs(high), 1e-9)
    if high - low < room:
        low, high = low - room, high + room
    # halves, as the range of numbers near the largest one overflows
    steps = np.linspace(0, 1, BARS + 1)
    edges = low * (1 - steps) + high * steps
    edges[0], edges[-1] = low, high
    counts = np.histogram(known, edges)[0]
    with np.errstate(over="ignore"):
        squares = float(np.sum(known**2))
    return Histogram(
        edges=edges, counts=counts, total=float(known.sum()), squares=squares
    )


class Histograms:
    """Histograms of the units of all sites, and of at most `MOST` sites one by one.

    A site gets its place when it is the worst (by its dead units, then by the largest
    |E[z]| / sd[z]) or when something is found there, and keeps it, so that a chart
    tells of one site from then on. Half of the places wait for findings. Weights are
    those of at most `SAMPLE` elements, and only where the model is given.
    """

    def __init__(self, model: Any = None) -> None:
        self.places: dict[str, None] = {}
        self.named: dict[str, Any] = dict(model.named_parameters()) if model else {}
        self.weights: dict[str, str] = {}

    def know(self, survey: Survey) -> None:
        """Note which parameter is the weight of which site."""
        self.weights = {site.name: site.weight for site in survey.sites}

    def found(self, findings: Iterable[Finding]) -> None:
        """Give places to the sites of findings."""
        for finding in findings:
            if finding.site is not None and len(self.places) < MOST:
                self.places[finding.site] = None

    def of(self, log: Log) -> dict[str, Histogram]:
        """Return the histograms of a log by name."""
        windows = {name: w for name, w in log.windows.items() if len(w.z.count)}
        for name in sorted(windows, key=lambda n: _worse(windows[n]), reverse=True):
            if len(self.places) >= MOST // 2:
                break
            self.places[name] = None
        facts = {name: _facts(window) for name, window in windows.items()}
        kinds = dict.fromkeys(kind for found in facts.values() for kind in found)
        rows = {
            f"{kind}/all": np.concatenate([
                f[kind] for f in facts.values() if kind in f
            ])
            for kind in kinds
        }
        rows |= {
            f"{kind}/{name}": values
            for name in self.places
            for kind, values in facts.get(name, {}).items()
        }
        for name in self.places:
            weight = self.named.get(self.weights.get(name, ""))
            if weight is not None and not hasattr(weight, "placements"):
                flat = weight.detach().reshape(-1)
                some = flat[:: -(-len(flat) // SAMPLE) or 1]
                rows[f"weight/{name}"] = some.float().cpu().numpy()
        drawn = {name: histogram(values) for name, values in rows.items()}
        return {name: one for name, one in drawn.items() if one is not None}


def _facts(window: Window) -> dict[str, Float[Any, " out"]]:
    known = window.z.count > 0
    found = {"effective bias": np.where(known, window.z.mean, np.nan)}
    if window.bias is not None:
        found["bias"] = window.bias
    return found


def _worse(window: Window) -> tuple[float, float]:
    z = window.z
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(z.mean) / z.sd
    ratio = ratio[np.isfinite(ratio)]
    return float(np.mean(z.high <= 0)), float(ratio.max()) if len(ratio) else 0.0


def sentence(finding: Finding) -> str:
    """Return a finding in one line: severity, code, name, place, what, why, remedy."""
    severity = finding.severity.name.lower() if finding.severity is not None else ""
    place = f" at {finding.site}" if finding.site else ""
    what = f"{severity} {finding.code} {finding.name}{place}: {finding.message}"
    return f"{what} (cause: {finding.cause}). {finding.remedy.advice}"


def listed(findings: Sequence[Finding]) -> str:
    """Return all findings as lines of Markdown, or that there are none."""
    return "\n".join(f"- {sentence(f)}" for f in findings) or "no findings"


def worst(places: Mapping[str, str]) -> str:
    """Return whose numbers the charts named "worst" show, as lines of Markdown."""
    return "\n".join(f"- {chart}: {place}" for chart, place in places.items())
