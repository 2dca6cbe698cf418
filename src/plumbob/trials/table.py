"""What a trial has found, as a table for people and as plain rows."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import floor, isfinite, log10
from statistics import fmean
from textwrap import fill
from typing import Any

from plumbob.columns import columns
from plumbob.trials.compare import SMALLEST, Change, Comparison, compare
from plumbob.trials.record import Run
from plumbob.trials.run import AS_IS


@dataclass(frozen=True, kw_only=True)
class Table:
    """The arms of a trial against the model as it is.

    `runs` are those of the seeds that all arms have ended, `by_hand` the findings
    whose remedy no function can follow, `stopped` why seeds are missing.
    """

    runs: tuple[Run, ...]
    steps: int
    every: int
    alpha: float
    level: float | None = None
    metric: str | None = None
    by_hand: tuple[str, ...] = ()
    stopped: str | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are compared."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every arm against the model as it is."""
        arms = dict.fromkeys(run.arm for run in self.runs)
        return tuple(
            compare(
                self.of(arm),
                self.of(AS_IS),
                alpha=self.alpha,
                every=self.every,
                level=self.level,
            )
            for arm in arms
            if arm != AS_IS
        )

    def of(self, arm: str) -> tuple[Run, ...]:
        """Return the runs of an arm, by seed."""
        return tuple(run for run in self.runs if run.arm == arm)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row of plain values for each comparison.

        Changes are mean, low and high of the differences to the model as it is; None
        where unknown.
        """
        return [_plain(asdict(one)) for one in self.comparisons]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, which JSON can hold."""
        return {
            "seeds": list(self.seeds),
            "steps": self.steps,
            "every": self.every,
            "alpha": self.alpha,
            "level": self.level,
            "metric": self.metric,
            "rows": self.rows(),
            "by_hand": list(self.by_hand),
            "stopped": self.stopped,
            "runs": [
                {
                    "arm": run.arm,
                    "seed": run.seed,
                    "curve": _plain(run.curve),
                    "did": _plain(run.did),
                    "diverged": run.diverged,
                }
                for run in self.runs
            ],
        }

    def __str__(self) -> str:
        parts = [self._head(), self._body(), *self._foot()]
        return "\n\n".join(part for part in parts if part)

    def _head(self) -> str:
        if not self.runs:
            return "Nothing was compared."
        base = [run for run in self.of(AS_IS) if run.ended]
        text = f"{len(self.seeds)} paired seeds of {self.steps} steps. As it is: "
        if not base:
            return text + "every run diverges."
        text += f"validation loss {fmean(run.loss for run in base):.4g}"
        scores = [run.metric for run in base if run.metric is not None]
        if self.metric and scores:
            text += f", {self.metric} {fmean(scores):.4g}"
        return text + "."

    def _body(self) -> str:
        if not self.comparisons:
            return ""
        head = ["", "loss", self.metric or "", "steps to level", "verdict"]
        base = [run for run in self.of(AS_IS) if run.ended]
        fine = _decimals(run.loss for run in base)
        score = _decimals(run.metric for run in base if run.metric is not None)
        rows = [
            [
                _name(one),
                _say(one.loss, fine),
                _say(one.metric, score) if one.metric else "",
                _say(one.steps, 0),
                one.verdict + _asides(one, len(self.seeds)),
            ]
            for one in self.comparisons
        ]
        if not self.metric:
            head, *rows = ([*row[:2], *row[3:]] for row in (head, *rows))
        return columns(head, rows)

    def _foot(self) -> list[str]:
        foot: list[str] = []
        if count := len(self.comparisons):
            level = "the lowest loss that all runs of both reach"
            if self.level is not None:
                end = self.steps + self.every
                level = f"a loss of {self.level:.4g} (never reached: {end} steps)"
            text = (
                f"Changes are against the model as it is, ± half the Student interval "
                f"of {100 * (1 - self.alpha / 2):.4g} % over the seeds. The level is "
                f"{level}; steps are known to {self.every}. Where nothing differs, a "
                f"verdict is wrong in at most {100 * self.alpha:.4g} % of cases where "
                f"differences are near normal: {count * self.alpha:.2g} of {count}."
            )
            foot.append(fill(text, width=88))
        if self.by_hand:
            lines = "\n".join(f"  {line}" for line in self.by_hand)
            foot.append(f"Not tried, since the remedy is by hand:\n{lines}")
        if self.stopped:
            foot.append(self.stopped)
        return foot


def _name(one: Comparison) -> str:
    """Name an arm by its acts and the sites of a run, where these are known."""
    sites = sum(count for _, count in one.did)
    if len(one.did) != 1:
        return one.arm + (f" ({sites:.3g} acts)" if one.did else "")
    told = f"{one.arm.partition(' ')[0]} {one.did[0][0]}"
    return told if sites == 1 else f"{told} ({sites:.3g} sites)"


def _decimals(values: Iterable[float]) -> int:
    """Return the decimals that show what counts as a difference."""
    smallest = SMALLEST * abs(fmean([*values] or [0.0]))
    return min(6, max(0, -floor(log10(smallest)))) if smallest else 4


def _say(change: Change, decimals: int) -> str:
    if not isfinite(change.mean):
        return "-"
    text = f"{change.mean:+.{decimals}f}"
    if not isfinite(change.low):
        return text
    return f"{text} ± {(change.high - change.low) / 2:.{decimals}f}"


def _asides(one: Comparison, seeds: int) -> str:
    """Say what the changes do not hold."""
    said = [
        f"{count} of {seeds} runs {whose}diverge"
        for count, whose in ((one.diverged, ""), (one.base_diverged, "as it is "))
        if count
    ]
    if one.censored:
        said.append(f"level missed by {one.censored} of {2 * seeds} runs")
    return f" ({'; '.join(said)})" if said else ""


def _plain(value: Any) -> Any:
    """Return lists and dicts of numbers and texts; None for what is not finite."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value
