"""Text pictures of a view: a model, a site, a unit."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from plumbob.report import response

if TYPE_CHECKING:
    from plumbob.report.view import SiteView, UnitView, View

BLOCKS = " ▁▂▃▄▅▆▇█"
SIDE = 7  # bins of a picture on either side of zero
HEADS = {
    "b": "b",
    "w_mu": "w.mu",
    "beta": "beta",
    "sd": "sd[z]",
    "centre": "-b/|w|",
    "kappa": "kappa",
    "firing": "fires",
    "entropy": "bits",
    "best_bias": "best b",
    "saturated": "flat",
    "top_input": "input",
    "top_moves": "moves z",
}
INPUTS = 8  # most important inputs of a unit that are listed


def model(view: "View") -> str:
    """Return one line per site: medians over its units, and z against zero."""
    sites = [view[name] for name in view]
    wide = min(max([len(s.site.name) for s in sites], default=4), 32)
    head = _line(
        wide,
        *("site", "out x in", "then", "|b|", "|beta|", "sd[z]", "|b|/|w|", "kappa"),
        *("bits", "fires", ""),
    )
    lines = [_about(view), "", head]
    lines += [_site_line(s, wide) for s in sites]
    lines += [
        "",
        "Medians over units. beta = b + w.mu = E[z], kappa = |w.mu| / sd[z], bits =",
        "the entropy of the gate z > 0; fires = P(z > 0) from its 10 % to its 90 %",
        "quantile over units. The picture is z of the whole site against zero. Next:",
        "one site by its name, one unit by its name and number.",
        *response.lines(view.survey),
    ]
    return "\n".join(lines)


def site(view: "SiteView", shown: int) -> str:
    """Return a site's units, the farthest from zero first."""
    rows, sample = view.table(), view.reading.sample

    def far(row: dict[str, Any]) -> float:
        beta, sd = row["beta"] or 0.0, row["sd"] or 0.0
        return -abs(beta) / sd if sd else -math.inf if beta else 0.0

    heads = {k: h for k, h in HEADS.items() if any(r[k] is not None for r in rows)}
    lines = [_describe(view), "", _row(["unit", *heads.values()], "  z against 0")]
    for row in sorted(rows, key=far)[:shown]:
        z = "" if sample is None else f"  {against_zero(sample[:, row['unit']])}"
        cells = [str(row["unit"]), *(number(row[key]) for key in heads)]
        lines.append(_row(cells, z))
    if len(rows) > shown:
        lines.append(f"... and {len(rows) - shown} more units; table() has them all")
    return "\n".join(lines)


def unit(view: "UnitView") -> str:
    """Return one unit, quantity by quantity, with its most important inputs."""
    row = view.row
    facts = [
        ("b", "b", ""),
        ("w.mu", "w_mu", "what the mean input adds"),
        ("beta", "beta", "= b + w.mu = E[z], the effective bias"),
        ("sd[z]", "sd", ""),
        ("|w|", "norm", ""),
        ("-b/|w|", "centre", "where the hyperplane lies along w, in units of x"),
        ("kappa", "kappa", "= |w.mu| / sd[z]: how far w acts as a bias"),
        ("fires", "firing", "P(z > 0)"),
        ("entropy", "entropy", "bits of the gate z > 0, at most 1"),
        ("best b", "best_bias", "the bias that would make it 1 bit"),
        (
            "flat",
            "saturated",
            "share of z where the slope is below 5 %",
        ),
    ]
    lines = [f"{view.site.name}[{row['unit']}]  {_what(view.site)}", ""]
    lines += [
        f"  {label:<10}{number(row[key]):>10}  {note}".rstrip()
        for label, key, note in facts
        if row[key] is not None
    ]
    if view.sample is not None:
        low, high = view.sample.min(), view.sample.max()
        lines.append(f"  {'z':<10}{number(low):>10} {against_zero(view.sample, 16)} ")
        lines[-1] += number(high)
    if view.importance is not None:
        top = np.argsort(-view.importance, kind="stable")[:INPUTS]
        lines += ["", "  inputs that move it most, |w_i| sd(x_i):"]
        lines += [f"  {f'x[{i}]':<10}{number(view.importance[i]):>10}" for i in top]
    return "\n".join(lines)


def against_zero(z: Float[Any, " kept"], side: int = SIDE) -> str:
    """Return a histogram of z with zero in its middle: `▁▃█│▆▂▁`.

    The range is the 99 % quantile of |z|; what lies beyond is in the last bins.
    """
    z = z[np.isfinite(z)]
    reach = float(np.quantile(np.abs(z), 0.99)) if z.size else 0.0
    if not reach:
        return " " * side + "│" + " " * side
    edges = np.linspace(-reach, reach, 2 * side + 1)
    counts, _ = np.histogram(np.clip(z, -reach, reach), edges)
    levels = np.ceil(counts / counts.max() * (len(BLOCKS) - 1)).astype(int)
    bars = "".join(BLOCKS[level] for level in levels)
    return f"{bars[:side]}│{bars[side:]}"


def number(value: float | None) -> str:
    """Return three significant digits, a true minus sign, "-" for None."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _about(view: "View") -> str:
    about = view.survey.about
    parts = [f"{about.get('model', 'model')}: {len(view.survey.sites)} sites"]
    parts += [
        f"{about[key]:,} {key}" for key in ("parameters", "samples") if key in about
    ]
    return ", ".join(parts)


def _what(site: Any) -> str:
    feeds = ", ".join(feed.site for feed in site.feeds[:4]) or "the output"
    if site.kind == "recurrent-sum":
        feeds = "its cell"
    then = f" -> {_then(site)}" if _then(site) else ""
    return f"{site.kind} {site.out} x {site.fan_in}{then}, read by {feeds}"


def _then(site: Any) -> str:
    norm = "norm" if site.norm else None
    return " ".join(filter(None, (norm, site.activation)))


def _describe(view: "SiteView") -> str:
    z = view.reading.z
    seen = "" if z is None else f"; z of {int(z.count.max(initial=0)):,} values"
    return f"{view.site.name}  {_what(view.site)}{seen}"


def _site_line(view: "SiteView", wide: int) -> str:
    site, rows = view.site, view.table()

    def median(key: str) -> str:
        known = [abs(row[key]) for row in rows if row[key] is not None]
        return number(float(np.median(known))) if known else "-"

    fires = [row["firing"] for row in rows if row["firing"] is not None]
    span = "-"
    if fires:
        low, high = np.quantile(fires, (0.1, 0.9))
        span = f"{100 * low:.0f}-{100 * high:.0f} %"
    sample = view.reading.sample
    return _line(
        wide,
        _short(site.name, wide),
        f"{site.out} x {site.fan_in}",
        _then(site),
        *map(median, ("b", "beta", "sd", "centre", "kappa", "entropy")),
        span,
        "" if sample is None else against_zero(sample.ravel()),
    )


def _line(wide: int, *cells: str) -> str:
    name, shape, then, *numbers, fires, picture = cells
    body = "".join(f"{cell:>8}" for cell in numbers)
    return f"{name:<{wide}}{shape:>13}  {then:<10}{body}{fires:>10}  {picture}".rstrip()


def _row(cells: Sequence[str], picture: str) -> str:
    first, *rest = cells
    return (f"{first:>5}" + "".join(f"{cell:>9}" for cell in rest) + picture).rstrip()


def _short(name: str, wide: int) -> str:
    return name if len(name) <= wide else "…" + name[1 - wide :]
