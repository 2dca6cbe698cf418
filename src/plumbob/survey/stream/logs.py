"""From numbers on their way from a device to a log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from plumbob.survey.stream.agreement import Agreement
from plumbob.survey.stream.later import Later
from plumbob.survey.stream.losses import Arriving
from plumbob.survey.stream.marks import Found
from plumbob.survey.stream.taken import Taken
from plumbob.types import Log, Window

HELD = ""  # the series of validation losses


@dataclass(slots=True, kw_only=True)
class Waiting:
    """A log whose numbers are on their way; `known` are those that are here."""

    step: int
    known: Mapping[str, Any]
    found: Sequence[Found]
    biases: Sequence[str]  # the sites that have one
    apart: Sequence[Sequence[str]]  # parameters compared over the ranks
    numbers: Later
    units: Taken | None
    losses: Arriving | None = None

    @property
    def ready(self) -> bool:
        """Whether `log` need not wait."""
        units = self.units is None or self.units.ready
        return units and self.numbers.ready and bool(self.losses and self.losses.ready)

    def log(self, agreement: Agreement) -> Log:
        """Return the log; waits for what is not here yet."""
        values = iter(self.numbers.read())
        marks = {k: m for one in self.found for k, m in one.marks(next(values)).items()}
        biases = {name: next(values) for name in self.biases}
        apart = [agreement.told(names, next(values)) for names in self.apart]
        uncleared = sum(int(value) for value in values)
        units = {} if self.units is None else self.units.read()
        losses = {} if self.losses is None else self.losses.read()
        held = losses.pop(HELD, ())
        known = dict(self.known)
        if not known["samples"]:  # nothing was heard inside of a compiled graph
            known["samples"] = max((u.samples for u in units.values()), default=0)
        return Log(
            step=self.step,
            losses=losses,
            held=held,
            marks=marks,
            windows={
                name: Window(
                    first=self.step,
                    last=self.step,
                    z=unit.z,
                    samples=unit.samples,
                    bias=biases.get(name),
                    saturated=unit.beyond,
                )
                for name, unit in units.items()
            },
            apart={k: v for one in apart for k, v in one.items()},
            uncleared=uncleared,
            **known,
        )


def waiting(
    step: int,
    known: Mapping[str, Any],
    *,
    found: Sequence[Found] = (),
    biases: Mapping[str, Tensor] | None = None,
    apart: Sequence[tuple[Sequence[str], Tensor]] = (),
    uncleared: Sequence[Tensor] = (),
    units: Taken | None = None,
) -> Waiting:
    """Send what was measured at a step on its way."""
    biases = biases or {}
    numbers = [one.numbers for one in found]
    numbers += [*biases.values(), *(t for _, t in apart)]
    numbers += uncleared
    return Waiting(
        step=step,
        known=known,
        found=found,
        biases=tuple(biases),
        apart=tuple(names for names, _ in apart),
        numbers=Later(numbers),
        units=units,
    )
