"""The groups as a list of dicts, and the table that explains them."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from plumbob.columns import columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One parameter: what it is, where it went and why. `group` None: frozen.

    `lr` and `weight_decay` are None where it is frozen, or where the caller's own
    group leaves them to the optimiser.
    """

    parameter: str
    shape: tuple[int, ...]
    role: str
    why: str
    depth: int
    group: str | None = None
    lr: float | None = None
    weight_decay: float | None = None


class Groups(list[dict[str, Any]]):
    """Parameter groups for any torch optimiser, which can say why they are so.

    `frozen` names what was frozen by the call; `how` says how depth was found.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        rows: Iterable[Row],
        *,
        how: str,
        frozen: tuple[str, ...] = (),
    ):
        super().__init__(groups)
        self._rows = tuple(rows)
        self.how = how
        self.frozen = frozen

    @property
    def muon(self) -> "Groups":
        """The groups for torch.optim.Muon; none where no split was asked for."""
        return self._only(True)

    @property
    def rest(self) -> "Groups":
        """The groups for another optimiser beside Muon."""
        return self._only(False)

    def _only(self, muon: bool) -> "Groups":
        kept = [group for group in self if group.get("use_muon", False) is muon]
        names = {group["name"] for group in kept}
        rows = [row for row in self._rows if row.group in names]
        return Groups(kept, rows, how=self.how)

    def rows(self) -> tuple[Row, ...]:
        """Return one row per parameter, in registration order."""
        return self._rows

    def __str__(self) -> str:
        """Return the table: a line per group and reason, frozen ones last."""
        order = {group["name"]: i for i, group in enumerate(self)}
        lines: dict[tuple[str, str, str], list[Row]] = {}
        for row in self._rows:
            lines.setdefault((row.group or "frozen", row.role, row.why), []).append(row)
        told = sorted(lines.items(), key=lambda line: order.get(line[0][0], len(order)))
        cells = [
            [
                group,
                _number(rows[0].lr),
                _number(rows[0].weight_decay),
                role,
                str(len(rows)),
                f"{sum(prod(row.shape) for row in rows):,}",
                why,
                _folded([row.parameter for row in rows]),
            ]
            for (group, role, why), rows in told
        ]
        head = ["group", "lr", "decay", "role", "tensors", "numbers", "why", "which"]
        table = columns(head, cells, right=[1, 2, 4, 5])
        return f"{table}\ndepth by the {self.how}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _folded(names: list[str], most: int = 2) -> str:
    """Return the names, those that differ in numbers only as one: a.{0-3}.b.

    A # stands for numbers that do not come in every combination.
    """
    kinds: dict[str, list[list[str]]] = {}
    for name in names:
        words = name.split(".")
        kind = ".".join("#" if word.isdigit() else word for word in words)
        kinds.setdefault(kind, []).append([w for w in words if w.isdigit()])
    told: list[str] = []
    for kind, numbers in kinds.items():
        places = [
            sorted({int(n) for n in place}) for place in zip(*numbers, strict=True)
        ]
        if prod(map(len, places)) == len(numbers):
            for place in places:
                kind = kind.replace("#", _ranges(place), 1)
        told.append(kind)
    more = f" and {len(told) - most} more" if len(told) > most else ""
    return ", ".join(told[:most]) + more


def _ranges(numbers: list[int]) -> str:
    """Return "3", "{0-3}" or "{0,2-3}"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return told[0] if len(numbers) == 1 else "{" + ",".join(told) + "}"
