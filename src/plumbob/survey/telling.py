"""A proof in short sentences."""

import operator

from torch import fx

from plumbob.survey.carriers import Carrier
from plumbob.survey.domain import End, Fate, Shift, name


class Steps:
    """The sentences of a walk; operations that only carry are drawn together."""

    def __init__(self, parameter: str) -> None:
        self.parameter = parameter
        self.said: list[str] = []
        self.carrying: list[str] = []
        self.how: Shift | None = None

    def carried(self, node: fx.Node, shift: Fate, *, direct: bool) -> None:
        """Note that an operation hands a shift on; `direct`: it read the parameter."""
        if not isinstance(shift, Shift):
            return
        verb = name(node)
        if direct:
            self._flush()
            self.said.append(f"{verb} adds {self.parameter} {shift}")
        elif node.target is not operator.getitem:
            if verb not in self.carrying:
                self.carrying.append(verb)
            self.how = shift

    def ended(self, end: End) -> None:
        """Note that it stops."""
        self._flush()
        self.said.append(end.why)

    def absorbed(self, carrier: Carrier) -> None:
        """Note that another parameter could carry it."""
        self._flush()
        why = "it is the same for every input"
        if carrier.kind == "rnn":
            why = f"{name(carrier.node)} only adds the two up"
        self.said.append(f"{carrier.name} can carry it: {why}")

    def _flush(self) -> None:
        if self.carrying:
            verb = "carry" if len(self.carrying) > 1 else "carries"
            self.said.append(f"{', '.join(self.carrying)} {verb} it {self.how}")
        self.carrying = []

    def lines(self) -> tuple[str, ...]:
        """Return the sentences."""
        self._flush()
        return tuple(dict.fromkeys(self.said))
