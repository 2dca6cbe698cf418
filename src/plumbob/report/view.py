"""What `look` returns: what each weight and bias does, per site and per unit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Float

from plumbob.errors import InputError, did_you_mean
from plumbob.report import picture
from plumbob.report.pandas import frame
from plumbob.types import Paths, Reading, Robustness, Site, Survey

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    *("b", "w_mu", "beta", "sd", "centre", "kappa"),
    *("firing", "entropy", "best_bias", "saturated", "norm", "top_input", "top_moves"),
)
SHOWN = 24  # units of a site in its printed table, the farthest from zero first


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitView:
    """One unit of one site: z = w.x + b.

    Attributes:
        row: the unit's row of `View.table()`.
        importance: |w_i| sd(x_i) per input (per input channel for a convolution), in
            units of z: how much each input moves this unit. None where W or x was
            not measured.
        sample: the kept values of z, (kept,).
        complete: whether `sample` holds every value that was measured.
    """

    site: Site
    row: dict[str, Any]
    importance: Float[Any, " in"] | None
    sample: Float[Any, " kept"] | None
    complete: bool

    def interval(self, labels: Sequence[int]) -> tuple[float, float] | None:
        """Return the biases [low, high) for which z >= 0 exactly where the label is 1.

        With s = w.x that is max(-s where 1) <= b < min(-s where 0), to six digits;
        None where no bias does it. AND of two inputs with w = (1, 1) gives [-2, -1),
        OR [-1, 0).

        Args:
            labels: 0 or 1 for each input of the batch, in order.

        Raises:
            InputError: z was not kept for every input, or the lengths differ.
        """
        if self.sample is None or not self.complete:
            raise InputError(
                f"the interval of {self.site.name}[{self.row['unit']}] needs z of "
                "every input; look at one batch small enough to be kept whole"
            )
        wanted = np.asarray(labels)
        if wanted.shape != self.sample.shape or not np.isin(wanted, (0, 1)).all():
            raise InputError(
                f"expected {len(self.sample)} labels of 0 or 1, one for each value of "
                f"z at {self.site.name}[{self.row['unit']}], got {list(labels)}"
            )
        # -w.x, as exact as z was computed
        size = np.abs(self.sample).max(initial=1e-300)
        threshold = np.round(
            (self.row["b"] or 0.0) - self.sample, 5 - int(np.floor(np.log10(size)))
        )
        low = threshold[wanted == 1].max(initial=-np.inf)
        high = threshold[wanted == 0].min(initial=np.inf)
        return (float(low), float(high)) if low < high else None

    def __str__(self) -> str:
        return picture.unit(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """One site: its units as rows of plain numbers; `print` shows the farthest out."""

    site: Site
    reading: Reading

    def table(self) -> list[dict[str, Any]]:
        """Return one row per unit; see `View.table`."""
        return _units(self.site, self.reading)

    def to_frame(self) -> "DataFrame":
        """Return `table()` as a DataFrame; see `View.to_frame`."""
        return frame(self.table())

    def spectrum(self) -> Float[Any, " rank"]:
        """Return all singular values of W, by a full decomposition.

        Raises:
            InputError: W was not kept: it is too large, or computed.
        """
        if self.reading.weight is None:
            raise InputError(
                f"the spectrum of {self.site.name} needs its weights, which are kept "
                "for maps of at most 4 million; take torch.linalg.svdvals of the "
                "parameter itself"
            )
        return np.linalg.svd(self.reading.weight, compute_uv=False)

    def __getitem__(self, unit: int) -> UnitView:
        rows = self.table()
        if not -len(rows) <= unit < len(rows):
            raise InputError(
                f"expected a unit of '{self.site.name}' from 0 to {len(rows) - 1}, "
                f"got {unit}"
            )
        reading, unit = self.reading, unit % len(rows)
        z = None if reading.sample is None else reading.sample[:, unit]
        seen = 0 if reading.z is None else int(reading.z.count[unit])
        moves = _importance(self.site, reading)
        return UnitView(
            site=self.site,
            row=rows[unit],
            importance=None if moves is None else moves[unit],
            sample=z,
            complete=z is not None and len(z) == seen,
        )

    def __str__(self) -> str:
        return picture.site(self, SHOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What every weight and bias does: `print(view)`, `view["fc1"]`, `view["fc1", 3]`.

    Iterating gives the names of the sites.
    """

    survey: Survey

    @overload
    def __getitem__(self, key: str) -> SiteView: ...
    @overload
    def __getitem__(self, key: tuple[str, int]) -> UnitView: ...
    def __getitem__(self, key: str | tuple[str, int]) -> SiteView | UnitView:
        if isinstance(key, tuple):
            name, unit = key
            return self[name][unit]
        for site in self.survey.sites:
            if site.name == key:
                reading = self.survey.readings.get(key, Reading())
                return SiteView(site=site, reading=reading)
        names = [site.name for site in self.survey.sites]
        raise InputError(
            f"no site is called {key!r}; there are {', '.join(names[:6])}"
            f"{', ...' if len(names) > 6 else ''}.{did_you_mean(key, names)}"
        )

    @property
    def paths(self) -> Paths | None:
        """The open paths per sample; None where a net is not piecewise linear."""
        return self.survey.paths

    @property
    def robustness(self) -> Robustness | None:
        """Which gains and offsets of the input the decisions survive."""
        return self.survey.robustness

    def __iter__(self) -> Iterator[str]:
        return (site.name for site in self.survey.sites)

    def table(self) -> list[dict[str, Any]]:
        """Return one row of plain numbers per unit of every site.

        Columns: `b` and `w_mu` add up to the effective bias `beta` = E[z]; `sd` of z;
        `centre` = -b/|w|, where the hyperplane lies along w, in units of x; `kappa` =
        |w.mu| / sd; `firing` = P(z > 0); `entropy` of that gate in bits and the
        `best_bias` that would maximise it (b - median z); `saturated` share of z;
        `norm` = |w|; `top_input` is the input that moves the unit most, by `top_moves`
        = |w_i| sd(x_i). None where something was not measured.
        """
        return [row for name in self for row in self[name].table()]

    def to_frame(self) -> "DataFrame":
        """Return `table()` as a DataFrame; needs the extra `pandas`.

        Raises:
            InputError: pandas is not installed.
        """
        return frame(self.table())

    def __str__(self) -> str:
        return picture.model(self)


def entropy(rate: Float[Any, " units"]) -> Float[Any, " units"]:
    """Return the entropy of a gate that fires with the given rate, in bits."""
    sides = np.stack([rate, 1 - rate])
    return 0.0 - (sides * np.log2(np.where(sides > 0, sides, 1))).sum(axis=0)


def _units(site: Site, reading: Reading) -> list[dict[str, Any]]:
    rows, z, shift = reading.rows, reading.z, reading.shift
    columns: dict[str, Any] = dict.fromkeys(COLUMNS)
    norm = bias = None
    if rows is not None:
        norm, bias = rows.norm, rows.bias
        if bias is not None:
            columns["centre"] = _ratio(-bias, norm)
    elif z is not None and shift is not None:
        bias = z.mean - shift  # of a gate: what both of its maps add
    columns |= {"norm": norm, "b": bias}
    if z is not None:
        rate = z.positive / np.maximum(z.count, 1)
        columns |= {"beta": z.mean, "sd": z.sd, "firing": rate}
        columns["entropy"] = entropy(rate)
        if shift is not None:
            columns |= {"w_mu": shift, "kappa": _ratio(np.abs(shift), z.sd)}
        if reading.saturated is not None:
            columns["saturated"] = reading.saturated / np.maximum(z.count, 1)
    if reading.sample is not None and (rows is not None or bias is not None):
        median = np.median(reading.sample, axis=0)
        columns["best_bias"] = reading.bias(site.out) - median
    moves = _importance(site, reading)
    if moves is not None:
        columns |= {"top_input": moves.argmax(axis=1), "top_moves": moves.max(axis=1)}
    kept = {k: v for k, v in columns.items() if v is not None}
    names = {"site": site.name, "activation": site.activation}
    return [
        {**names, "unit": unit}
        | {k: float(kept[k][unit]) if k in kept else None for k in columns}
        for unit in range(site.out)
    ]


def _ratio(a: Float[Any, " n"], b: Float[Any, " n"]) -> Float[Any, " n"]:
    """Return a / b, infinite or NaN where b is 0, without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return a / b


@np.errstate(over="ignore")  # weights of 1e200 are shown as infinite
def _importance(site: Site, reading: Reading) -> Float[Any, "out in"] | None:
    """Return |w_i| sd(x_i), a convolution's taps of one channel taken together."""
    if reading.weight is None or reading.x is None:
        return None
    w, sd = reading.weight, reading.x.sd
    if site.groups > 1 or not len(sd) or w.shape[1] % len(sd):
        return None
    taps = w.reshape(len(w), len(sd), -1)
    return np.sqrt((taps**2).sum(axis=2)) * sd


def labelled(view: object, labels: str) -> str:
    """Say which biases of a unit give its inputs labels such as "0,0,0,1".

    Raises:
        InputError: it is no unit that is looked at, or these are no labels.
    """
    if not isinstance(view, UnitView):
        raise InputError("--labels goes with a SITE and a UNIT: they label its inputs")
    words = labels.split(",")
    if set(words) - {"0", "1"}:
        raise InputError(f"expected labels such as 0,0,0,1, got {labels!r}")
    found = view.interval([int(word) for word in words])
    if found is None:
        return f"no bias gives the labels {labels}: the weights are in the way"
    return f"the labels {labels} hold for b in [{found[0]:g}, {found[1]:g})"
