"""What was mended, and what proves it."""

from dataclasses import dataclass, field
from typing import Any

from plumbob.certificate import Certificate
from plumbob.mending.offer import Refusal
from plumbob.types import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """The certificates of all that was done, and the refusals with their reasons.

    `before` and `after` are numbers of parameters.
    """

    goal: Mode
    mode: str
    certificates: list[Certificate] = field(default_factory=list[Certificate])
    refused: list[Refusal] = field(default_factory=list[Refusal])
    before: int = 0
    after: int = 0

    @property
    def removed(self) -> tuple[str, ...]:
        """The parameters that are gone."""
        return tuple(name for c in self.certificates for name in c.removed)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        raise NotImplementedError

    def __str__(self) -> str:
        lines = [str(c) for c in self.certificates] + [str(r) for r in self.refused]
        saved = self.before - self.after
        lines.append(
            f"{self.before:,} parameters, {saved:,} fewer"
            if self.certificates
            else "nothing to mend"
        )
        return "\n".join(lines)
